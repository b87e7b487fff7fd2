"""A small CogVideoX: the classes of the real pipeline, sized for one CPU.

The VAE is the identity, with weights set by hand, so diffusion runs on pixels and the
transformer's patches compress them. A small trained VAE blurs the shapes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import torch
import transformers

from torch_bridge.miniature import tokens, world


@dataclasses.dataclass(frozen=True)
class Size:
  """The sizes that determine the shapes of the weights."""

  text_tokens: int = 56
  text_width: int = 128
  text_layers: int = 2
  width: int = 256
  time_width: int = 64
  heads: int = 8
  layers: int = 3
  patch: int = 16


def build(seed: int, size: Size) -> diffusers.CogVideoXPipeline:
  """An untrained pipeline; the same seed gives the same weights."""
  with torch.random.fork_rng(devices=[]):
    torch.manual_seed(seed)
    tokenizer = tokens.build()
    return diffusers.CogVideoXPipeline(
      tokenizer=tokenizer,
      text_encoder=_text_encoder(len(tokenizer), size),
      vae=identity_vae(),
      transformer=_transformer(size),
      scheduler=diffusers.CogVideoXDDIMScheduler(
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
      ),
    )


def _text_encoder(vocabulary: int, size: Size) -> transformers.T5EncoderModel:
  return transformers.T5EncoderModel(
    transformers.T5Config(
      vocab_size=vocabulary,
      d_model=size.text_width,
      d_kv=size.text_width // 4,
      num_heads=4,
      d_ff=2 * size.text_width,
      num_layers=size.text_layers,
      dropout_rate=0.0,
      feed_forward_proj="gated-gelu",
    )
  )


def _transformer(size: Size) -> diffusers.CogVideoXTransformer3DModel:
  model = diffusers.CogVideoXTransformer3DModel(
    num_attention_heads=size.heads,
    attention_head_dim=size.width // size.heads,
    in_channels=3,
    out_channels=3,
    time_embed_dim=size.time_width,
    text_embed_dim=size.text_width,
    num_layers=size.layers,
    sample_width=world.SIDE,
    sample_height=world.SIDE,
    sample_frames=world.FRAMES,
    patch_size=size.patch,
    temporal_compression_ratio=1,
    max_text_seq_length=size.text_tokens,
    spatial_interpolation_scale=1.0,
  )
  # Each block starts as the identity, and the output as zero (DiT, arXiv:2212.09748).
  with torch.no_grad():
    blocks: Any = model.transformer_blocks
    for block in blocks:
      for norm in (block.norm1, block.norm2):
        norm.linear.weight.zero_()
        norm.linear.bias.zero_()
    for linear in (model.norm_out.linear, model.proj_out):
      linear.weight.zero_()
      linear.bias.zero_()
  return model


def identity_vae() -> diffusers.AutoencoderKLCogVideoX:
  """A VAE whose latents are the pixels.

  Encoder and decoder carry x and -x, because SiLU(x) - SiLU(-x) = x. In the encoder,
  two large constant channels dominate the variance, so GroupNorm divides by a constant.
  In the decoder, the latents enter after the norm, through its `conv_b`.
  """
  # diffusers annotates these arguments as tuples of one element.
  make: Any = diffusers.AutoencoderKLCogVideoX
  vae = make(
    down_block_types=("CogVideoXDownBlock3D",),
    up_block_types=("CogVideoXUpBlock3D",),
    block_out_channels=(8,),
    latent_channels=3,
    layers_per_block=0,
    norm_num_groups=1,
    temporal_compression_ratio=1,
    sample_height=world.SIDE,
    sample_width=world.SIDE,
    scaling_factor=1.0,
  )
  constant = 1000.0  # its square is far larger than a pixel's
  deviation = constant / 2  # of the eight channels, two of which are constant
  with torch.no_grad():
    for name, parameter in vae.named_parameters():
      # Zero: the residual blocks add nothing.
      parameter.zero_()
      if name.endswith("norm_layer.weight"):
        parameter.fill_(1.0)
    encoder, decoder = vae.encoder, vae.decoder
    for channel in range(3):
      # The last of the three taps in time is the current frame.
      encoder.conv_in.conv.weight[channel, channel, -1, 1, 1] = 1
      encoder.conv_in.conv.weight[3 + channel, channel, -1, 1, 1] = -1
      encoder.conv_out.conv.weight[channel, channel, -1, 1, 1] = 1
      encoder.conv_out.conv.weight[channel, 3 + channel, -1, 1, 1] = -1
      decoder.norm_out.conv_b.conv.weight[channel, channel] = 1
      decoder.norm_out.conv_b.conv.weight[3 + channel, channel] = -1
      decoder.conv_out.conv.weight[channel, channel, -1, 1, 1] = 1
      decoder.conv_out.conv.weight[channel, 3 + channel, -1, 1, 1] = -1
    encoder.conv_in.conv.bias[6] = constant
    encoder.conv_in.conv.bias[7] = -constant
    encoder.norm_out.weight[:6] = deviation
    encoder.conv_out.conv.bias[3:] = -30.0  # log variance
  return vae
