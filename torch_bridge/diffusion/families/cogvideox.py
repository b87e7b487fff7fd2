"""CogVideoX: 2B with sine and cosine positions, 5B with rotary ones."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models import embeddings
from diffusers.pipelines.cogvideo import pipeline_cogvideox

from torch_bridge.diffusion import noising
from torch_bridge.diffusion.families import base


class CogVideoX:
  """Latents are [T, C, H, W]; the model predicts v (the miniature's predicts x0)."""

  transformer: str = "CogVideoXTransformer3DModel"
  # The scheduler that renders may be another; the noise schedule is the same.
  scheduler: str = "CogVideoXDDIMScheduler"

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    side = pipe.vae_scale_factor_spatial * config.patch_size
    return pipe.vae_scale_factor_temporal, side, side

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    if config.patch_size_t is not None:
      raise ValueError("CogVideoX 1.5 (patches in time) cannot be trained yet")
    if config.use_learned_positional_embeddings:
      raise ValueError("a CogVideoX with learned positions cannot be trained yet")

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    # The mean, so that a video has one encoding.
    latents = pipe.vae.encode(frames).latent_dist.mode()[0].float()
    return latents.transpose(0, 1) * pipe.vae.config.scaling_factor

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
    return noising.Diffusion(scheduler)

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: base.Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    latents = noised.latents.to(text["encoder_hidden_states"].dtype)
    return transformer(
      hidden_states=latents,
      timestep=noised.timestep,
      image_rotary_emb=_rotary(config, latents),
      return_dict=False,
      **text,
    )[0]


def _rotary(
  config: Any, latents: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | None:
  """The tables of the rotary positions, as the pipeline makes them."""
  if not config.use_rotary_positional_embeddings:
    return None
  patch = config.patch_size
  height, width = latents.shape[-2] // patch, latents.shape[-1] // patch
  base_size = config.sample_height // patch, config.sample_width // patch
  crops = pipeline_cogvideox.get_resize_crop_region_for_grid(
    (height, width), base_size[1], base_size[0]
  )
  make: Any = embeddings.get_3d_rotary_pos_embed
  return make(
    embed_dim=config.attention_head_dim,
    crops_coords=crops,
    grid_size=(height, width),
    temporal_size=latents.shape[1],
    device=latents.device,
  )
