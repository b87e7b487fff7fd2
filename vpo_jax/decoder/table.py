"""Declares every weight once: its shape, logical axes and Hugging Face name.

Initialisation, sharding, loading and export all use this table.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vpo_jax.decoder import config as decoder_config

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Weight:
  """One parameter.

  Attributes:
    shape: its shape in the computation. The parameters of all layers are stacked along
      a leading axis "layers".
    axes: the logical axis of each dimension; `sharding.RULES` maps them to the mesh.
    hf_name: name of the tensor in a Hugging Face directory, with `{layer}` if stacked.
    transposed: whether Hugging Face stores the matrix as [out, in].
  """

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  hf_name: str
  transposed: bool = False

  @property
  def stacked(self) -> bool:
    return self.axes[0] == "layers"

  @property
  def hf_shape(self) -> tuple[int, ...]:
    """The shape of one tensor in the Hugging Face directory."""
    shape = self.shape[1:] if self.stacked else self.shape
    return shape[::-1] if self.transposed else shape


def table(config: decoder_config.DecoderConfig) -> dict[str, Any]:
  """The `Weight`s of a model, as a tree of the parameters' structure."""
  c = config
  d, f, q, kv = c.d_model, c.d_ff, c.heads * c.head_dim, c.kv_heads * c.head_dim

  def matrix(name: str, d_in: int, axis_in: str, d_out: int, axis_out: str) -> Weight:
    return Weight(
      shape=(c.layers, d_in, d_out),
      axes=("layers", axis_in, axis_out),
      hf_name=f"model.layers.{{layer}}.{name}.weight",
      transposed=True,
    )

  def norm(name: str, size: int = d) -> Weight:
    name = f"model.layers.{{layer}}.{name}.weight"
    return Weight((c.layers, size), ("layers", None), name)

  def bias(matrix: Weight) -> Weight:
    (layers, _, d_out), (_, _, axis_out) = matrix.shape, matrix.axes
    name = matrix.hf_name.removesuffix("weight") + "bias"
    return Weight((layers, d_out), ("layers", axis_out), name)

  layers = {
    "attn_norm": norm("input_layernorm"),
    "q": matrix("self_attn.q_proj", d, "model", q, "heads"),
    "k": matrix("self_attn.k_proj", d, "model", kv, "kv_heads"),
    "v": matrix("self_attn.v_proj", d, "model", kv, "kv_heads"),
    "o": matrix("self_attn.o_proj", q, "heads", d, "model"),
    "mlp_norm": norm("post_attention_layernorm"),
    "gate": matrix("mlp.gate_proj", d, "model", f, "ff"),
    "up": matrix("mlp.up_proj", d, "model", f, "ff"),
    "down": matrix("mlp.down_proj", f, "ff", d, "model"),
  }
  layers |= {f"{name}_bias": bias(layers[name]) for name in c.biases}
  if c.qk_norm:
    layers["q_norm"] = norm("self_attn.q_norm", c.head_dim)
    layers["k_norm"] = norm("self_attn.k_norm", c.head_dim)
  if c.output_norms:
    layers["attn_out_norm"] = norm("post_attention_layernorm")
    layers["mlp_norm"] = norm("pre_feedforward_layernorm")
    layers["mlp_out_norm"] = norm("post_feedforward_layernorm")
  tree: dict[str, Any] = {
    "embed": Weight((c.vocab, d), ("vocab", "model"), "model.embed_tokens.weight"),
    "layers": layers,
    "norm": Weight((d,), (None,), "model.norm.weight"),
  }
  if not c.tied:
    tree["head"] = Weight((c.vocab, d), ("vocab", "model"), "lm_head.weight")
  return tree


def init(key: jax.Array, config: decoder_config.DecoderConfig) -> Params:
  """Random float32 parameters.

  Norms multiply by 1, biases are 0, matrices are normal with a deviation of 0.02.
  """
  weights, structure = jax.tree.flatten(table(config))
  keys = jax.random.split(key, len(weights))

  def one(key: jax.Array, weight: Weight) -> jax.Array:
    if "norm" in weight.hf_name:
      return jnp.full(weight.shape, 1 - config.norm_offset, jnp.float32)
    if weight.hf_name.endswith("bias"):
      return jnp.zeros(weight.shape, jnp.float32)
    return 0.02 * jax.random.normal(key, weight.shape, jnp.float32)

  return jax.tree.unflatten(
    structure, [one(*kw) for kw in zip(keys, weights, strict=True)]
  )
