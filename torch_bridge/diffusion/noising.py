"""How a family adds noise to latents, and what its transformer predicts."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import torch

_FLOW_TIMES = 1000  # a flow's timestep is its noise level times this


@dataclasses.dataclass(frozen=True)
class Noised:
  """Noisy latents.

  Attributes:
    latents: [B, ...], in float32.
    timestep: [B], as the transformer takes it.
    target: [B, ...], what the transformer should predict.
  """

  latents: torch.Tensor
  timestep: torch.Tensor
  target: torch.Tensor


@runtime_checkable
class Noising(Protocol):
  """A noise schedule."""

  def __call__(
    self, latents: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor
  ) -> Noised:
    """Adds noise.

    Args:
      latents: [B, ...], clean, in float32.
      noise: [B, ...], standard normal.
      uniform: [B], from 0 to 1 (not included); decides the noise level, 0 is the least.
    """
    ...


class Diffusion:
  """A diffusion process with discrete timesteps, such as CogVideoX's.

  Timesteps are uniform, as in the paper on Diffusion DPO.
  """

  def __init__(self, scheduler: Any):
    """Uses a scheduler's betas and its `prediction_type`.

    Raises:
      ValueError: an unknown prediction type.
    """
    self._scheduler = scheduler
    self._kind = scheduler.config.prediction_type
    if self._kind not in ("v_prediction", "epsilon", "sample"):
      raise ValueError(f"prediction type {self._kind!r} is not supported")

  def __call__(
    self, latents: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor
  ) -> Noised:
    steps = self._scheduler.config.num_train_timesteps
    timestep = (uniform.double() * steps).long()
    noisy = self._scheduler.add_noise(latents, noise, timestep)
    if self._kind == "v_prediction":
      target = self._scheduler.get_velocity(latents, noise, timestep)
    else:
      target = latents if self._kind == "sample" else noise
    return Noised(noisy, timestep, target)


class Flow:
  """Flow matching: a straight line from the latents to the noise."""

  def __init__(self, shift: float, reverse: bool = False):
    """A flow whose times are uniform before the shift.

    Args:
      shift: moves the noise levels up, as the model's scheduler does when it renders:
        sigma = shift u / (1 + (shift - 1) u).
      reverse: timesteps and velocity run from noise to data (Mochi).
    """
    self._shift = shift
    self._reverse = reverse

  def __call__(
    self, latents: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor
  ) -> Noised:
    sigma = self._shift * uniform / (1 + (self._shift - 1) * uniform)
    level = sigma.reshape(-1, *(1,) * (latents.ndim - 1))
    noisy = (1 - level) * latents + level * noise
    if self._reverse:
      return Noised(noisy, (1 - sigma) * _FLOW_TIMES, latents - noise)
    return Noised(noisy, sigma * _FLOW_TIMES, noise - latents)
