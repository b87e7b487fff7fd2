"""What a family of video models does in its own way."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from torch_bridge.diffusion import noising

# The text inputs of a transformer by name, without a batch dimension on disk and with
# one in training.
Text = dict[str, torch.Tensor]


@runtime_checkable
class Family(Protocol):
  """The steps that differ between families, without any state.

  Attributes:
    transformer: class in diffusers of the transformer.
    scheduler: class in diffusers that reads the model's scheduler.
  """

  transformer: str
  scheduler: str

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    """The frames less one, the height and the width are multiples of these.

    Args:
      pipe: the pipeline, without its transformer.
      config: of the transformer.
    """
    ...

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    """Checks what is special about a transformer.

    Raises:
      ValueError: it cannot be trained, or not at this size.
    """
    ...

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    """Latents as the transformer takes them, in float32 and without a batch dimension.

    Args:
      frames: [1, 3, T, H, W], from -1 to 1, in the VAE's dtype.
    """
    ...

  def encode_text(self, pipe: Any, prompt: str, settings: dict[str, Any]) -> Text: ...

  def noising(
    self, scheduler: Any, latents: torch.Tensor, settings: dict[str, Any]
  ) -> noising.Noising:
    """The noise schedule.

    Args:
      latents: of any video; only their shape counts.
    """
    ...

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    """The transformer's prediction, [B, ...] like the latents.

    Args:
      transformer: maybe in a wrapper for data parallelism.
      config: the transformer's.
    """
    ...


def normalized(
  latents: torch.Tensor, config: Any, scale: float, *, channels: int
) -> torch.Tensor:
  """Latents with the mean and the deviation of the VAE's config, if it has them."""
  if config.get("latents_mean") is None or config.get("latents_std") is None:
    return latents * scale
  shape = [1] * latents.ndim
  shape[channels] = -1
  mean = latents.new_tensor(config["latents_mean"]).reshape(shape)
  deviation = latents.new_tensor(config["latents_std"]).reshape(shape)
  return (latents - mean) / deviation * scale
