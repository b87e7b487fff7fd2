"""LTX-Video: flow matching on a sequence of tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.pipelines.ltx import pipeline_ltx

from torch_bridge.diffusion import noising
from torch_bridge.diffusion.families import base

_Pipeline = pipeline_ltx.LTXPipeline


class Ltx:
  """Latents are [C, T, H, W]."""

  transformer: str = "LTXVideoTransformer3DModel"
  scheduler: str = "FlowMatchEulerDiscreteScheduler"

  def multiples(self, pipe: Any, config: Any) -> tuple[int, int, int]:
    side = pipe.vae_spatial_compression_ratio * config.patch_size
    time = pipe.vae_temporal_compression_ratio * config.patch_size_t
    return time, side, side

  def check(self, config: Any, settings: dict[str, Any]) -> None:
    pass

  def encode_video(self, pipe: Any, frames: torch.Tensor) -> torch.Tensor:
    vae = pipe.vae
    latents = vae.encode(frames).latent_dist.mode().float()
    return _Pipeline._normalize_latents(
      latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )[0]

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
    config = scheduler.config
    mu = pipeline_ltx.calculate_shift(
      math.prod(latents.shape[-3:]),
      config.base_image_seq_len,
      config.max_image_seq_len,
      config.base_shift,
      config.max_shift,
    )
    return noising.Flow(math.exp(mu) if config.use_dynamic_shifting else config.shift)

  def predict(
    self,
    transformer: Any,
    config: Any,
    noised: noising.Noised,
    text: base.Text,
    settings: dict[str, Any],
  ) -> torch.Tensor:
    frames, height, width = noised.latents.shape[-3:]
    patches = config.patch_size, config.patch_size_t
    tokens = _Pipeline._pack_latents(noised.latents, *patches)
    side = settings["height"] // height
    # One latent frame is one or more frames, but of the first frame alone.
    time = (settings["num_frames"] - 1) // max(1, frames - 1)
    rate = settings.get("call", {}).get("frame_rate", settings["fps"])
    predicted = transformer(
      hidden_states=tokens.to(text["encoder_hidden_states"].dtype),
      timestep=noised.timestep,
      num_frames=frames,
      height=height,
      width=width,
      rope_interpolation_scale=(time / rate, side, side),
      return_dict=False,
      **text,
    )[0]
    return _Pipeline._unpack_latents(predicted, frames, height, width, *patches)
