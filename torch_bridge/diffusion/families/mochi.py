"""Mochi 1: flow matching from noise to data."""

from __future__ import annotations

from typing import Any

import torch

from torch_bridge.diffusion import noising
from torch_bridge.diffusion.families import base


class Mochi:
  """Latents are [C, T, H, W]."""

  transformer: str = "MochiTransformer3DModel"
  scheduler: str = "FlowMatchEulerDiscreteScheduler"

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    side = pipe.vae_spatial_scale_factor * config.patch_size
    return pipe.vae_temporal_scale_factor, side, side

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    pass

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    latents = pipe.vae.encode(frames).latent_dist.mode()[0].float()
    config = pipe.vae.config
    return base.normalized(latents, config, config.scaling_factor, channels=0)

  def encode_text(self, pipe: Any, prompt: str, settings: dict[str, Any]) -> base.Text:
    states, mask, _, _ = pipe.encode_prompt(
      prompt,
      do_classifier_free_guidance=False,
      max_sequence_length=settings["text_tokens"],
    )
    return {"encoder_hidden_states": states[0], "encoder_attention_mask": mask[0]}

  def noising(
    self, scheduler: Any, latents: torch.Tensor, settings: dict[str, Any]
  ) -> noising.Noising:
    # It renders with levels of its own (linear, then quadratic); no shift.
    return noising.Flow(1.0, reverse=True)

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: base.Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    return transformer(
      hidden_states=noised.latents.to(text["encoder_hidden_states"].dtype),
      timestep=noised.timestep,
      return_dict=False,
      **text,
    )[0]
