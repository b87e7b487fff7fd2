"""Rotary position embeddings (arXiv:2104.09864): the frequencies of each kind."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vpo_jax import errors


@dataclasses.dataclass(frozen=True)
class Rope:
  """How a layer turns queries and keys by their position.

  Attributes:
    frequencies: radians per position of each of the head's H / 2 pairs; zeros leave
      queries and keys as they are.
    base: each unscaled frequency is the one before it times base^(-2 / H).
    scale: factor of the cosines and sines (YaRN's attention factor).
    context: the longest sequence for which these frequencies hold, in tokens; None for
      that of the model.
  """

  frequencies: tuple[float, ...]
  base: float = 1.0
  scale: float = 1.0
  context: int | None = None


def none(head_dim: int) -> Rope:
  """The RoPE of a layer without positions: it rotates nothing."""
  return Rope((0.0,) * (head_dim // 2))


def read(
  parameters: dict[str, Any], head_dim: int, theta: float, context: int, where: str
) -> Rope:
  """Reads the `rope_parameters` (or `rope_scaling`) of a config.json.

  Args:
    parameters: of one kind of layer; may be empty.
    head_dim: of the model.
    theta: the base if `parameters` has no `rope_theta`.
    context: `max_position_embeddings` of the model.
    where: the source, for error messages.

  Raises:
    UserError: the type is not one of `default`, `linear`, `dynamic`, `llama3` and
      `yarn`, it rotates only a part of the head, or a number is missing.
  """
  kind = parameters.get("rope_type", parameters.get("type", "default"))
  if kind not in _TYPES:
    raise errors.UserError(
      f"{where}: rope_type {kind!r} is not one of {', '.join(_TYPES)}"
    )
  if parameters.get("partial_rotary_factor", 1) != 1:
    raise errors.UserError(f"{where}: partial_rotary_factor is not supported")
  base = float(parameters.get("rope_theta", theta))
  frequencies = base ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
  try:
    rope = _TYPES[kind](frequencies, parameters, base, context)
  except KeyError as error:
    raise errors.UserError(
      f"{where}: rope_type {kind!r} requires {error.args[0]}"
    ) from error
  return dataclasses.replace(rope, base=base)


def _rope(frequencies: np.ndarray, **options: Any) -> Rope:
  return Rope(tuple(map(float, frequencies.astype(np.float32))), **options)


def _default(frequencies, parameters, base, context) -> Rope:
  return _rope(frequencies)


def _linear(frequencies, parameters, base, context) -> Rope:
  """Positions divided by a factor."""
  return _rope(frequencies / parameters["factor"])


def _dynamic(frequencies, parameters, base, context) -> Rope:
  """Unscaled up to the original context; beyond it they depend on the length."""
  return _rope(frequencies, context=context)


def _llama3(frequencies, parameters, base, context) -> Rope:
  """Keeps high frequencies, divides low ones by a factor, and interpolates between.

  arXiv:2407.21783; transformers `_compute_llama3_parameters`.
  """
  original = parameters["original_max_position_embeddings"]
  cycles = original * frequencies / (2 * np.pi)  # in the original context
  low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
  keep = np.clip((cycles - low) / (high - low), 0.0, 1.0)
  return _rope(keep * frequencies + (1 - keep) * frequencies / parameters["factor"])


def _yarn(frequencies, parameters, base, context) -> Rope:
  """As `_llama3`, with a ramp over the pairs, and larger queries and keys.

  arXiv:2309.00071; transformers `_compute_yarn_parameters`.
  """
  pairs = len(frequencies)
  original = parameters["original_max_position_embeddings"]
  factor = parameters.get("factor") or context / original

  def pair(turns: float) -> float:
    """The pair that turns this often within the original context."""
    return pairs * math.log(original / (turns * 2 * math.pi)) / math.log(base)

  first = pair(parameters.get("beta_fast") or 32)
  last = pair(parameters.get("beta_slow") or 1)
  if parameters.get("truncate", True):
    first, last = math.floor(first), math.ceil(last)
  first, last = max(first, 0), min(last, 2 * pairs - 1)
  last += 0.001 * (first == last)
  divide = np.clip((np.arange(pairs) - first) / (last - first), 0, 1)
  scaled = divide * frequencies / factor + (1 - divide) * frequencies
  return _rope(scaled, scale=_yarn_scale(parameters, factor))


def _yarn_scale(parameters: dict[str, Any], factor: float) -> float:
  if parameters.get("attention_factor") is not None:
    return float(parameters["attention_factor"])

  def scale(weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

  weight, every = parameters.get("mscale"), parameters.get("mscale_all_dim")
  return scale(weight) / scale(every) if weight and every else scale(1)


_TYPES: dict[str, Callable[..., Rope]] = {
  "default": _default,
  "linear": _linear,
  "dynamic": _dynamic,
  "llama3": _llama3,
  "yarn": _yarn,
}
