"""HunyuanVideo: flow matching, two text encoders, embedded guidance."""

from __future__ import annotations

from typing import Any

import torch

from torch_bridge.diffusion import noising
from torch_bridge.diffusion.families import base

_GUIDANCE = 1000.0  # the transformer takes the guidance scale times this


class HunyuanVideo:
  """Latents are [C, T, H, W]."""

  transformer: str = "HunyuanVideoTransformer3DModel"
  scheduler: str = "FlowMatchEulerDiscreteScheduler"

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    side = pipe.vae_scale_factor_spatial * config.patch_size
    return pipe.vae_scale_factor_temporal * config.patch_size_t, side, side

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    pass

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    latents = pipe.vae.encode(frames).latent_dist.mode()[0].float()
    return latents * pipe.vae.config.scaling_factor

  def encode_text(self, pipe: Any, prompt: str, settings: dict[str, Any]) -> base.Text:
    # With a template of the preset, if it has one.
    template = settings.get("call", {}).get("prompt_template")
    given = {"prompt_template": template} if template else {}
    states, pooled, mask = pipe.encode_prompt(
      prompt, max_sequence_length=settings["text_tokens"], **given
    )
    return {
      "encoder_hidden_states": states[0],
      "encoder_attention_mask": mask[0],
      "pooled_projections": pooled[0],
    }

  def noising(
    self, scheduler: Any, latents: torch.Tensor, settings: dict[str, Any]
  ) -> noising.Noising:
    return noising.Flow(float(scheduler.config.shift))

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: base.Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    latents = noised.latents.to(text["encoder_hidden_states"].dtype)
    guidance = None
    if config.guidance_embeds:
      guidance = latents.new_full((len(latents),), settings["guidance_scale"])
      guidance = guidance * _GUIDANCE
    return transformer(
      hidden_states=latents,
      timestep=noised.timestep,
      guidance=guidance,
      return_dict=False,
      **text,
    )[0]
