"""A decoder's sizes and tensors in llama.cpp's terms.

What each architecture of llama.cpp computes is in its `src/models/`; the names of keys
and tensors come from the package `gguf`, which is a part of llama.cpp.
"""

import dataclasses
from collections.abc import Callable

import gguf
import numpy as np

from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import rope as ropes

_ALL = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class Architecture:
  """One architecture of llama.cpp, and what it supports.

  Attributes:
    arch: its number in the package `gguf`.
    interleaved: whether RoPE turns neighbours (0, 1), (2, 3), ... of a head and not, as
      in transformers, its halves. The rows of q and k are then stored in that order.
    biases: the matrices that may have a bias.
    rope_factors: whether each pair may have its own factor of RoPE's frequency.
    window_period: of so many layers the last is global and all others are local; 0 if
      all are global.
    unrotated_period: of so many layers the last does not rotate; 0 if all rotate.
    capped: whether attention scores and logits are bounded.
    large: number of layers of the largest model, whose queries are scaled by D / N
      instead of H.
  """

  arch: gguf.MODEL_ARCH
  interleaved: bool = False
  biases: tuple[str, ...] = ()
  rope_factors: bool = False
  window_period: int = 0
  unrotated_period: int = 0
  capped: bool = False
  large: int = 0

  @property
  def name(self) -> str:
    return gguf.MODEL_ARCH_NAMES[self.arch]


_LLAMA = Architecture(
  gguf.MODEL_ARCH.LLAMA, interleaved=True, biases=_ALL, rope_factors=True
)
_GEMMA3 = Architecture(gguf.MODEL_ARCH.GEMMA3, window_period=6, large=62)
# By the `model_type` of config.json.
ARCHITECTURES = {
  "llama": _LLAMA,
  "mistral": _LLAMA,
  "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2, biases=("q", "k", "v")),
  "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3),
  "smollm3": Architecture(
    gguf.MODEL_ARCH.SMOLLM3, interleaved=True, unrotated_period=4
  ),
  "gemma2": Architecture(
    gguf.MODEL_ARCH.GEMMA2, window_period=2, capped=True, large=46
  ),
  "gemma3": _GEMMA3,
  "gemma3_text": _GEMMA3,
}


def check(
  target: Architecture, config: decoder_config.DecoderConfig, where: str
) -> None:
  """Checks that llama.cpp computes all of a decoder's features.

  Args:
    where: the model, for error messages.

  Raises:
    UserError: it does not.
  """
  c = config
  kinds = [c.kinds[kind] for kind in c.kind_of_layer]
  size = c.d_model // c.heads if c.layers == target.large else c.head_dim
  unrotated = [not any(kind.rope.frequencies) for kind in kinds]
  local = [kind.window is not None for kind in kinds]
  period = target.window_period
  faults = {
    f"biases of {', '.join(c.biases)}": not set(c.biases) <= set(target.biases),
    "RoPE of type yarn": any(kind.rope.scale != 1 for kind in kinds),
    "its layers without RoPE": unrotated != _every(target.unrotated_period, c.layers),
    "its order of local and global layers": period
    and local != [not last for last in _every(period, c.layers)],
    "its factor of queries": not np.isclose(c.query_scale, size**-0.5, rtol=1e-6),
    "its bounds of scores or logits": target.capped
    != (c.score_cap is not None and c.logit_cap is not None),
    "its RoPE": not target.rope_factors
    and any(_linear(kind.rope) is None for kind in kinds),
    "an output head of its own": not c.tied and target.capped,
  }
  for fault, there in faults.items():
    if there:
      raise errors.UserError(
        f"{where}: llama.cpp's {target.name} does not support {fault}; export it with"
        " config.format=huggingface"
      )


def _every(period: int, layers: int) -> list[bool]:
  """Whether each layer is the last of `period`."""
  return [bool(period) and (layer + 1) % period == 0 for layer in range(layers)]


def factors(rope: ropes.Rope) -> np.ndarray:
  """What divides each frequency of a RoPE without scaling, [H / 2]."""
  pairs = len(rope.frequencies)
  unscaled = rope.base ** -(np.arange(pairs) / pairs)
  return unscaled / np.asarray(rope.frequencies)


def _linear(rope: ropes.Rope) -> float | None:
  """The factor that all frequencies of a RoPE share; None if they differ."""
  if not any(rope.frequencies):
    return 1.0
  divisors = factors(rope)
  return round(divisors[0], 6) if np.allclose(divisors, divisors[0]) else None


def add(
  writer: gguf.GGUFWriter, target: Architecture, config: decoder_config.DecoderConfig
) -> None:
  """Adds the keys of a decoder that passes `check`."""
  c = config
  windows = [kind.window for kind in c.kinds if kind.window]
  context = c.context if target.window_period else min([c.context, *windows])
  writer.add_context_length(context)  # within a window all layers are global
  writer.add_embedding_length(c.d_model)
  writer.add_block_count(c.layers)
  writer.add_feed_forward_length(c.d_ff)
  writer.add_head_count(c.heads)
  writer.add_head_count_kv(c.kv_heads)
  writer.add_key_length(c.head_dim)
  writer.add_value_length(c.head_dim)
  writer.add_layer_norm_rms_eps(c.norm_eps)
  writer.add_vocab_size(c.vocab)
  if target.window_period:
    writer.add_sliding_window(windows[0])
  if target.capped:
    assert c.score_cap is not None
    assert c.logit_cap is not None
    writer.add_attn_logit_softcapping(c.score_cap)
    writer.add_final_logit_softcapping(c.logit_cap)
  _add_rope(writer, c)


def _add_rope(writer: gguf.GGUFWriter, c: decoder_config.DecoderConfig) -> None:
  writer.add_rope_dimension_count(c.head_dim)
  rotating = [kind for kind in c.kinds if any(kind.rope.frequencies)]
  everywhere = [kind.rope for kind in rotating if kind.window is None]
  main = (everywhere or [rotating[0].rope])[0]
  writer.add_rope_freq_base(main.base)
  linear = _linear(main)
  if linear is not None and linear != 1:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(linear)
  local = {kind.rope.base for kind in rotating} - {main.base}
  for base in local:
    writer.add_rope_freq_base_swa(base)


def rope_factors(config: decoder_config.DecoderConfig) -> np.ndarray | None:
  """The tensor of RoPE's factors, float32 [H / 2], if a single number is not enough."""
  for kind in config.kinds:
    if _linear(kind.rope) is None:
      return factors(kind.rope).astype(np.float32)
  return None


def tensor_names(target: Architecture, layers: int) -> Callable[[str], str]:
  """A function from Hugging Face's name of a tensor to llama.cpp's."""
  names = gguf.get_tensor_name_map(target.arch, layers)

  def name(hf_name: str) -> str:
    found = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
    assert found is not None, hf_name
    return found

  return name


def interleave(matrix: np.ndarray, heads: int) -> np.ndarray:
  """Reorders the rows of q or k, [heads * H, ...], from halves to neighbours."""
  halves = matrix.reshape(heads, 2, -1, *matrix.shape[1:])
  return halves.swapaxes(1, 2).reshape(matrix.shape)
