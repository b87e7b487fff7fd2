"""Attention windows: which masks the layers of a model have."""

from typing import Any

from jaxtyping import Array, Bool, Int

from vpo_jax.decoder import config as decoder_config


def masks(
  config: decoder_config.DecoderConfig,
  mask_BTS: Bool[Array, "#B #T #S"],
  position_BT: Int[Array, "#B T"],
  position_BS: Int[Array, "#B S"],
  longest: int,
) -> list[Any]:
  """The mask of each kind of layer: `mask_BTS`, but within the kind's window.

  Positions are those on the path from the root, so a window reaches back along a
  token's own prompt, wherever it is stored.

  Args:
    config: of the model.
    mask_BTS: True where a query may attend to a key without a window.
    position_BT, position_BS: of queries and keys on their paths, from 0.
    longest: most tokens that a path can have; a window as long changes nothing.
  """
  distance_BTS = position_BT[:, :, None] - position_BS[:, None, :]

  windows = sizes(config, longest)
  found = {
    size: mask_BTS if size is None else mask_BTS & (distance_BTS < size)
    for size in dict.fromkeys(windows)
  }
  return [found[size] for size in windows]


def sizes(config: decoder_config.DecoderConfig, longest: int) -> list[int | None]:
  """The window of each kind of layer, in tokens; None if it changes nothing.

  Args:
    longest: most tokens that a path can have.
  """
  windows = [kind.window for kind in config.kinds]
  return [None if size is None or size >= longest else size for size in windows]
