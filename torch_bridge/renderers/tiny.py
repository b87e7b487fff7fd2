"""A tiny CogVideoX with random weights: the real pipeline, for a machine with no GPU.

    python -m torch_bridge.renderers.tiny --out=DIR --seed=0

The directory is saved by diffusers and loaded as any other: T5 encoder and tokenizer,
VAE, transformer and scheduler are the classes of CogVideoX-2B, some ten thousand times
smaller. Nothing was trained, so a video shows nothing that its prompt names. What it
does show depends on the prompt: the words move it away from the unconditional video,
and guidance carries it further, so that brightness, contrast, colour and motion differ
between prompts and can be measured.
"""

from __future__ import annotations

import argparse
import itertools
import math
import pathlib
import string
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import torch
import transformers

_WORDS = pathlib.Path(__file__).parent / "tiny_words.txt"

TEXT_TOKENS = 226  # CogVideoX's own limit
SIDE = 48  # pixels
FRAMES = 9
_WIDTH = 64
_LATENTS = 4
_DOWN = 4  # pixels per latent, on a side

# How the random weights are scaled. Chosen by looking at videos: with plain Gaussian
# weights all prompts give the same grey texture.
_SHARED = 0.15  # what all words have in common, against what is each word's own
_NOISE = 0.08  # the noise, against position and text
_SHARPNESS = 3.5  # of attention, so that places attend to different words
_CURVE = 2.0  # of the feed-forward, so that text changes the shape of a frame
_UNEVEN = 0.15  # of the pixels inside a patch
_OUT = 0.3  # of the latents


def build(seed: int) -> diffusers.CogVideoXPipeline:
  """The pipeline; the same seed gives the same weights."""
  with torch.random.fork_rng(devices=[]):
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    return diffusers.CogVideoXPipeline(
      tokenizer=tokenizer,
      text_encoder=_text_encoder(len(tokenizer)),
      vae=_vae(),
      transformer=_transformer(),
      # Zero terminal SNR and trailing steps, as CogVideoX; it predicts the sample, so
      # that a network that learned nothing still makes a picture.
      scheduler=diffusers.CogVideoXDDIMScheduler(
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
      ),
    )


def _tokenizer() -> transformers.T5Tokenizer:
  words = dict.fromkeys(_WORDS.read_text(encoding="utf-8").split())
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
  pieces += [(f"▁{word}", -6.0) for word in words if len(word) > 1]
  # Any other word is spelled, by two letters where it can be.
  letters = string.ascii_letters + string.digits + string.punctuation
  pieces += [(letter, -9.0) for letter in letters]
  pairs = itertools.product(string.ascii_lowercase, repeat=2)
  pieces += [(one + two, -9.0) for one, two in pairs]
  return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)


def _text_encoder(vocabulary: int) -> transformers.T5EncoderModel:
  model = transformers.T5EncoderModel(
    transformers.T5Config(
      vocab_size=vocabulary,
      d_model=_WIDTH,
      d_kv=16,
      num_heads=4,
      d_ff=2 * _WIDTH,
      num_layers=2,
      dropout_rate=0.0,
      feed_forward_proj="gated-gelu",
    )
  )
  with torch.no_grad():
    # Words share a direction that padding lacks. The pipeline gives T5 no mask, so
    # padding is seen too: the more words, the further from the empty prompt.
    table = model.shared.weight
    shared = _SHARED * torch.randn(_WIDTH)
    table.normal_().add_(shared)
    table[0] = -shared
  return model


def _vae() -> diffusers.AutoencoderKLCogVideoX:
  # diffusers' annotations say tuples of one.
  make: Any = diffusers.AutoencoderKLCogVideoX
  vae = make(
    down_block_types=("CogVideoXDownBlock3D",) * 3,
    up_block_types=("CogVideoXUpBlock3D",) * 3,
    block_out_channels=(8, 8, 8),
    latent_channels=_LATENTS,
    layers_per_block=1,
    norm_num_groups=2,
    temporal_compression_ratio=1,
    sample_height=SIDE,
    sample_width=SIDE,
    scaling_factor=1.0,
  )
  with torch.no_grad():
    # GroupNorm would take brightness and contrast away; the decoder's last norm gets
    # them back from the latents, and what the convolutions add is texture.
    last = vae.decoder.norm_out
    last.conv_b.conv.weight.normal_(0, 1)
    last.conv_b.conv.bias.normal_(0, 0.5)
    last.conv_y.conv.weight.normal_(0, 0.15)
    last.conv_y.conv.bias.zero_()
    out = vae.decoder.conv_out.conv
    mix = torch.randn(out.weight.shape[:2]) / math.sqrt(out.weight.shape[1])
    blur = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.zeros(3, 3, 3)
    kernel[-1] = blur[:, None] * blur / 16  # causal: the last of three is now
    out.weight.copy_(mix[..., None, None, None] * kernel)
    out.bias.zero_()
  return vae


def _transformer() -> diffusers.CogVideoXTransformer3DModel:
  model = diffusers.CogVideoXTransformer3DModel(
    num_attention_heads=4,
    attention_head_dim=_WIDTH // 4,
    in_channels=_LATENTS,
    out_channels=_LATENTS,
    time_embed_dim=32,
    text_embed_dim=_WIDTH,
    num_layers=2,
    sample_width=SIDE // _DOWN,
    sample_height=SIDE // _DOWN,
    sample_frames=FRAMES,
    patch_size=2,
    temporal_compression_ratio=1,
    max_text_seq_length=TEXT_TOKENS,
    spatial_interpolation_scale=1.0,
    temporal_interpolation_scale=3.0,  # nine frames, slow changes
  )
  with torch.no_grad():
    _scale(model)
  return model


def _scale(model: diffusers.CogVideoXTransformer3DModel) -> None:
  for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear):
      curve = _CURVE if ".ff." in name else 1.0
      module.weight.normal_(0, curve / math.sqrt(module.in_features))
  model.patch_embed.proj.weight.normal_(0, _NOISE / math.sqrt(4 * _LATENTS))
  blocks: Any = model.transformer_blocks
  for block in blocks:
    block.attn1.norm_q.weight.fill_(_SHARPNESS)
    for norm in (block.norm1, block.norm2):
      norm.linear.weight.mul_(0.2)
      # Shift, scale and gate of video and text: open gates, else nothing gets in.
      norm.linear.bias.view(6, -1)[[2, 5]] = 1.0
  even = torch.randn(_LATENTS, 1, 1, _WIDTH)
  uneven = torch.randn(_LATENTS, 2, 2, _WIDTH)
  weight = (even + _UNEVEN * uneven).reshape(-1, _WIDTH)
  model.proj_out.weight.copy_(_OUT * weight / math.sqrt(_WIDTH))


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", required=True, help="the folder to write")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(arguments)
  build(args.seed).save_pretrained(args.out)
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
