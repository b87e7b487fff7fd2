"""Wan 2.1 and Wan 2.2 5B: flow matching, latents with a mean and a deviation."""

from __future__ import annotations

from typing import Any

import torch

from torch_bridge.diffusion import noising
from torch_bridge.diffusion.families import base


class Wan:
  """Latents are [C, T, H, W]."""

  transformer: str = "WanTransformer3DModel"
  scheduler: str = "UniPCMultistepScheduler"

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    side = pipe.vae_scale_factor_spatial
    _, height, width = config.patch_size
    return pipe.vae_scale_factor_temporal, side * height, side * width

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    # A Wan with two transformers has a guidance scale for each.
    if "guidance_scale_2" in settings.get("call", {}):
      raise ValueError("a Wan with two transformers cannot be trained yet")

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    latents = pipe.vae.encode(frames).latent_dist.mode()[0].float()
    return base.normalized(latents, pipe.vae.config, 1.0, channels=0)

  def encode_text(self, pipe: Any, prompt: str, settings: dict[str, Any]) -> base.Text:
    states, _ = pipe.encode_prompt(
      prompt,
      do_classifier_free_guidance=False,
      max_sequence_length=settings["text_tokens"],
    )
    return {"encoder_hidden_states": states[0]}

  def noising(
    self, scheduler: Any, latents: torch.Tensor, settings: dict[str, Any]
  ) -> noising.Noising:
    return noising.Flow(float(scheduler.config.flow_shift))

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: base.Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    # Wan 2.2 5B takes one timestep per token, but all are equal without an image.
    return transformer(
      hidden_states=noised.latents.to(text["encoder_hidden_states"].dtype),
      timestep=noised.timestep,
      return_dict=False,
      **text,
    )[0]
