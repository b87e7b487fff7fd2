"""The presets' pipelines of diffusers at a very small size, with random weights.

Each function saves a model directory with the classes of the real one. A tokenizer has
one token per word, so that a text limit can be met exactly.
"""

import diffusers
import tokenizers
import torch
import transformers

WORDS = [f"w{i}" for i in range(20)]
WIDTH = 32  # of the text embeddings


def cogvideox(folder, rotary):
  """CogVideoX: the 2B has sine and cosine positions, the 5B rotary ones."""
  torch.manual_seed(0)
  transformer = diffusers.CogVideoXTransformer3DModel(
    num_attention_heads=2,
    attention_head_dim=16,
    in_channels=4,
    out_channels=4,
    time_embed_dim=4,
    text_embed_dim=WIDTH,
    num_layers=2,
    sample_width=6,
    sample_height=6,
    sample_frames=9,
    max_text_seq_length=226,
    use_rotary_positional_embeddings=rotary,
  )
  vae = diffusers.AutoencoderKLCogVideoX(
    down_block_types=("CogVideoXDownBlock3D",) * 4,
    up_block_types=("CogVideoXUpBlock3D",) * 4,
    block_out_channels=(8, 8, 8, 8),
    latent_channels=4,
    layers_per_block=1,
    norm_num_groups=2,
    sample_height=96,  # tiles of half the sides, whose overlaps are whole latents
    sample_width=80,
  )
  # As in the release, where the preset's scheduler replaces it for the 5B.
  scheduler = diffusers.CogVideoXDDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    snr_shift_scale=1.0 if rotary else 3.0,
    timestep_spacing="linspace",
  )
  diffusers.CogVideoXPipeline(
    tokenizer=_t5_tokenizer(),
    text_encoder=_t5_encoder(),
    vae=vae,
    transformer=transformer,
    scheduler=scheduler,
  ).save_pretrained(folder)


def wan(folder, kind):
  """Wan 2.1 ("2.1"), and 2.2 with two transformers ("a14b") or a larger VAE ("5b")."""
  torch.manual_seed(0)
  channels = 48 if kind == "5b" else 16

  def transformer():
    return diffusers.WanTransformer3DModel(
      patch_size=(1, 2, 2),
      num_attention_heads=2,
      attention_head_dim=12,
      in_channels=channels,
      out_channels=channels,
      text_dim=WIDTH,
      freq_dim=32,
      ffn_dim=32,
      num_layers=2,
      cross_attn_norm=True,
      qk_norm="rms_norm_across_heads",
      rope_max_seq_len=32,
    )

  larger = {
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "patch_size": 2,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
    "scale_factor_spatial": 16,
  }
  vae = diffusers.AutoencoderKLWan(
    base_dim=3,
    z_dim=channels,
    dim_mult=[1, 1, 1, 1],
    num_res_blocks=1,
    temperal_downsample=[False, True, True],
    **(larger if kind == "5b" else {}),
  )
  scheduler = diffusers.UniPCMultistepScheduler(
    prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
  )
  diffusers.WanPipeline(
    tokenizer=_t5_tokenizer(),
    text_encoder=_t5_encoder(transformers.UMT5Config, transformers.UMT5EncoderModel),
    vae=vae,
    transformer=transformer(),
    transformer_2=transformer() if kind == "a14b" else None,
    boundary_ratio=0.875 if kind == "a14b" else None,
    expand_timesteps=kind == "5b",
    scheduler=scheduler,
  ).save_pretrained(folder)


def ltx(folder):
  torch.manual_seed(0)
  transformer = diffusers.LTXVideoTransformer3DModel(
    in_channels=8,
    out_channels=8,
    num_attention_heads=4,
    attention_head_dim=8,
    cross_attention_dim=32,
    num_layers=2,
    caption_channels=WIDTH,
  )
  vae = diffusers.AutoencoderKLLTXVideo(
    latent_channels=8,
    block_out_channels=(8, 8, 8, 8),
    decoder_block_out_channels=(8, 8, 8, 8),
    layers_per_block=(1, 1, 1, 1, 1),
    decoder_layers_per_block=(1, 1, 1, 1, 1),
  )
  scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
    use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
  )
  diffusers.LTXPipeline(
    tokenizer=_t5_tokenizer(),
    text_encoder=_t5_encoder(),
    vae=vae,
    transformer=transformer,
    scheduler=scheduler,
  ).save_pretrained(folder)


def mochi(folder):
  torch.manual_seed(0)
  transformer = diffusers.MochiTransformer3DModel(
    patch_size=2,
    num_attention_heads=2,
    attention_head_dim=8,
    num_layers=2,
    pooled_projection_dim=16,
    in_channels=12,
    text_embed_dim=WIDTH,
    time_embed_dim=4,
    max_sequence_length=256,
  )
  vae = diffusers.AutoencoderKLMochi(
    latent_channels=12,
    encoder_block_out_channels=(32, 32, 32, 32),
    decoder_block_out_channels=(32, 32, 32, 32),
    layers_per_block=(1, 1, 1, 1, 1),
  )
  diffusers.MochiPipeline(
    tokenizer=_t5_tokenizer(),
    text_encoder=_t5_encoder(),
    vae=vae,
    transformer=transformer,
    scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
  ).save_pretrained(folder)


def hunyuan(folder):
  """HunyuanVideo, with a Llama in a template and a CLIP as text encoders."""
  torch.manual_seed(0)
  transformer = diffusers.HunyuanVideoTransformer3DModel(
    in_channels=4,
    out_channels=4,
    num_attention_heads=2,
    attention_head_dim=10,
    num_layers=1,
    num_single_layers=1,
    num_refiner_layers=1,
    guidance_embeds=True,
    text_embed_dim=16,
    pooled_projection_dim=8,
    rope_axes_dim=(2, 4, 4),
  )
  vae = diffusers.AutoencoderKLHunyuanVideo(
    latent_channels=4,
    block_out_channels=(8, 8, 8, 8),
    layers_per_block=1,
    norm_num_groups=4,
  )
  tokenizer, clip_tokenizer = _llama_tokenizer(), _clip_tokenizer()
  llama = transformers.LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=16,
    intermediate_size=32,
    num_attention_heads=4,
    num_hidden_layers=4,
    pad_token_id=tokenizer.pad_token_id,
  )
  clip = transformers.CLIPTextConfig(
    vocab_size=len(clip_tokenizer),
    hidden_size=8,
    intermediate_size=16,
    num_attention_heads=2,
    num_hidden_layers=2,
    projection_dim=8,
    eos_token_id=clip_tokenizer.eos_token_id,
    bos_token_id=clip_tokenizer.bos_token_id,
  )
  diffusers.HunyuanVideoPipeline(
    tokenizer=tokenizer,
    text_encoder=transformers.LlamaModel(llama),
    tokenizer_2=clip_tokenizer,
    text_encoder_2=transformers.CLIPTextModel(clip),
    vae=vae,
    transformer=transformer,
    scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
  ).save_pretrained(folder)


def _t5_tokenizer():
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
  pieces += [(f"▁{word}", -6.0) for word in WORDS]
  return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)


def _t5_encoder(config=transformers.T5Config, model=transformers.T5EncoderModel):
  torch.manual_seed(0)
  return model(
    config(
      vocab_size=len(_t5_tokenizer()),
      d_model=WIDTH,
      d_kv=8,
      d_ff=32,
      num_layers=1,
      num_heads=4,
      feed_forward_proj="gated-gelu",
    )
  )


def _llama_tokenizer():
  special = ["<unk>", "<pad>", "<s>", "</s>"]
  special += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
  words = {word: i for i, word in enumerate(special + WORDS)}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  # The pipeline drops the first 95 tokens, its template's in Llama's tokens; here the
  # template has 91.
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> <s> <s> <s> $A", special_tokens=[("<s>", words["<s>"])]
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made,
    unk_token="<unk>",
    pad_token="<pad>",
    bos_token="<s>",
    eos_token="</s>",
    additional_special_tokens=special[4:],
  )


def _clip_tokenizer():
  letters = sorted({letter for word in WORDS for letter in word})
  words = ["<|startoftext|>", "<|endoftext|>", *letters]
  words += [f"{letter}</w>" for letter in letters]
  return transformers.CLIPTokenizer(
    vocab={word: i for i, word in enumerate(words)}, merges=[]
  )
