"""The architecture of a model, read from a Hugging Face `config.json`."""

import dataclasses
from typing import Any, Literal

from etils import epath

from vpo_jax import errors, json_input
from vpo_jax.decoder import families
from vpo_jax.decoder.families import hf_config
from vpo_jax.decoder.rope import Rope


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """What differs between the layers of a model.

  Attributes:
    rope: how queries and keys are rotated.
    window: number of last tokens of its path that a token attends to, itself included;
      None for all.
  """

  rope: Rope
  window: int | None = None


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and features of a model; `families` says which model has which.

  Attributes:
    vocab, d_model, d_ff, layers, heads, kv_heads, head_dim: sizes.
    context: the longest sequence that the model supports, in tokens.
    norm_eps: epsilon of RMSNorm.
    tied: whether the output head is the embedding.
    kinds: the different kinds of layers.
    kind_of_layer: index in `kinds` of each layer.
    query_scale: factor of the queries before their products with keys.
    activation: of the gate in the feed-forward block.
    biases: names of the matrices in `table.table` that have a bias.
    qk_norm: whether queries and keys are normalised, per head and before rotation.
    norm_offset: number added to the weights of all norms.
    output_norms: whether the outputs of both blocks of a layer are normalised.
    embed_scale: factor of the embeddings.
    score_cap, logit_cap: bounds of attention scores and of logits; see `soft_cap`.
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
  tied: bool
  kinds: tuple[LayerKind, ...]
  kind_of_layer: tuple[int, ...]
  query_scale: float
  activation: Literal["silu", "gelu_tanh"] = "silu"
  biases: tuple[str, ...] = ()
  qk_norm: bool = False
  norm_offset: float = 0.0
  output_norms: bool = False
  embed_scale: float = 1.0
  score_cap: float | None = None
  logit_cap: float | None = None

  def flops_per_token(self, keys: float) -> float:
    """FLOPs (two per multiply-add) of a token in all layers, at depth `keys`.

    Excludes the output head, which takes `2 * d_model * vocab` per predicted token.
    """
    attention = self.d_model * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
    products = attention + 3 * self.d_model * self.d_ff
    windows = (self.kinds[kind].window for kind in self.kind_of_layer)
    in_view = sum(min(keys, window or keys) for window in windows)
    scores = 2 * in_view * self.heads * self.head_dim
    return 2 * (self.layers * products + scores)


def read(folder: epath.PathLike) -> DecoderConfig:
  """Reads `folder/config.json`.

  Raises:
    UserError: the file is missing or not JSON, or the model's family is not in
      `families.FAMILIES`, it is quantized, or it has a feature that is not supported.
  """
  path = epath.Path(folder) / "config.json"
  if not path.exists():
    raise errors.UserError(f"{path}: no such file; is it a model directory?")
  return parse(json_input.fields(path), where=str(path))


def parse(hf: dict[str, Any], where: str = "config") -> DecoderConfig:
  """Parses a config as transformers 4 or 5 writes it.

  Args:
    hf: the parsed JSON.
    where: the source, for error messages.

  Raises:
    UserError: as `read`.
  """
  for key in ("quantization_config", "compression_config"):
    if hf.get(key):
      raise errors.UserError(
        f"{where}: the model is quantized ({key}); use one with float32, float16 or"
        " bfloat16 weights"
      )
  family = families.of(hf, where)
  read = hf_config.Reader(family.text_config(hf), where)
  features = family.features(read)
  ropes, windows = features.pop("ropes"), features.pop("windows")
  layers = [LayerKind(*kind) for kind in zip(ropes, windows, strict=True)]
  kinds = tuple(dict.fromkeys(layers))
  contexts = [kind.rope.context or read.context for kind in kinds]
  return DecoderConfig(
    vocab=read["vocab_size"],
    d_model=read["hidden_size"],
    d_ff=read["intermediate_size"],
    layers=read.layers,
    heads=read.heads,
    kv_heads=read.get("num_key_value_heads", read.heads),
    head_dim=read.head_dim,
    context=min(contexts),
    norm_eps=read.get("rms_norm_eps", 1e-6),
    kinds=kinds,
    kind_of_layer=tuple(kinds.index(layer) for layer in layers),
    **({"query_scale": read.head_dim**-0.5} | features),
  )
