"""The architecture of a Llama model, read from a Hugging Face `config.json`."""

import dataclasses
from typing import Any

from etils import epath

from vpo_jax import errors, json_input


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Llama 3.1's scaling of RoPE frequencies (`rope_type: llama3`)."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_context: int


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and constants of the model.

  Attributes:
    vocab, d_model, d_ff, layers, heads, kv_heads, head_dim: sizes.
    context: the longest sequence that the model supports, in tokens.
    norm_eps: epsilon of RMSNorm.
    rope_theta: base of the RoPE frequencies.
    rope_scaling: None for unscaled frequencies.
    tied: whether the output head is the embedding.
  """

  vocab: int
  d_model: int
  d_ff: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  context: int
  norm_eps: float
  rope_theta: float
  rope_scaling: RopeScaling | None
  tied: bool

  def flops_per_token(self, keys: float) -> float:
    """FLOPs (two per multiply-add) of a token in all layers, with `keys` keys in view.

    Excludes the output head, which takes `2 * d_model * vocab` per predicted token.
    """
    attention = self.d_model * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
    products = attention + 3 * self.d_model * self.d_ff
    scores = 2 * keys * self.heads * self.head_dim
    return 2 * self.layers * (products + scores)


def read(folder: epath.PathLike) -> DecoderConfig:
  """Reads `folder/config.json`.

  Raises:
    UserError: the file is missing or not JSON, or the model is not a Llama, is
      quantized, or uses a feature that is not supported.
  """
  path = epath.Path(folder) / "config.json"
  if not path.exists():
    raise errors.UserError(f"{path}: no such file; is it a model directory?")
  return parse(json_input.value(path), where=str(path))


def parse(hf: dict[str, Any], where: str = "config") -> DecoderConfig:
  """Parses a `LlamaConfig` as transformers 4 or 5 writes it.

  Args:
    hf: the parsed JSON.
    where: the source, for error messages.

  Raises:
    UserError: as `read`.
  """
  if hf.get("model_type") != "llama":
    raise errors.UserError(
      f"{where}: model_type {hf.get('model_type')!r}; only 'llama' is supported"
    )
  for key in ("quantization_config", "compression_config"):
    if hf.get(key):
      raise errors.UserError(
        f"{where}: the model is quantized ({key}); use one with float32, float16 or"
        " bfloat16 weights"
      )
  for key in ("attention_bias", "mlp_bias"):
    if hf.get(key):
      raise errors.UserError(f"{where}: {key} is not supported")
  if hf.get("hidden_act", "silu") != "silu":
    raise errors.UserError(f"{where}: hidden_act {hf['hidden_act']!r} is not supported")
  try:
    heads = hf["num_attention_heads"]
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    return DecoderConfig(
      vocab=hf["vocab_size"],
      d_model=hf["hidden_size"],
      d_ff=hf["intermediate_size"],
      layers=hf["num_hidden_layers"],
      heads=heads,
      kv_heads=hf.get("num_key_value_heads") or heads,
      head_dim=hf.get("head_dim") or hf["hidden_size"] // heads,
      context=hf.get("max_position_embeddings", 2048),
      norm_eps=hf.get("rms_norm_eps", 1e-6),
      rope_theta=float(rope.get("rope_theta", hf.get("rope_theta", 10000.0))),
      rope_scaling=_rope_scaling(rope, where),
      tied=bool(hf.get("tie_word_embeddings", False)),
    )
  except KeyError as error:
    raise errors.UserError(f"{where}: {error.args[0]} is missing") from error


def _rope_scaling(rope: dict[str, Any], where: str) -> RopeScaling | None:
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind == "default":
    return None
  if kind != "llama3":
    raise errors.UserError(f"{where}: rope_type {kind!r} is not supported")
  return RopeScaling(
    factor=float(rope["factor"]),
    low_freq_factor=float(rope["low_freq_factor"]),
    high_freq_factor=float(rope["high_freq_factor"]),
    original_context=int(rope["original_max_position_embeddings"]),
  )
