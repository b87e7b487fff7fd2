"""LoRA (arXiv:2106.09685): frozen weights, and a product of two thin matrices beside.

y = x W + (alpha / rank) (x A) B, with A random and B zero at the start, so that the
first step begins from the frozen model.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
from etils import epath
from jaxtyping import Array, Float

from vpo_jax import errors, files
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul, table, weights
from vpo_jax.runtime import processes

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


@flax.struct.dataclass
class Adapted(matmul.Matrix):
  """A frozen matrix with its adapter: w + scale * a @ b."""

  w: Float[Array, "*layers i o"]
  a: Float[Array, "*layers i r"]
  b: Float[Array, "*layers r o"]
  scale: float = flax.struct.field(pytree_node=False)

  def product(self, x, dtype):
    low_rank: Any = matmul.dense(matmul.dense(x, self.a, dtype), self.b, dtype)
    return matmul.dense(x, self.w, dtype) + self.scale * low_rank


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which matrices are adapted, and how."""

  rank: int
  alpha: float
  targets: tuple[str, ...]

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def declare(self, config: decoder_config.DecoderConfig) -> dict[str, Any]:
    """The adapters' declaration, under PEFT's names; they have the same structure."""
    layers = table.table(config)["layers"]
    return {name: self._pair(layers[name]) for name in self.targets}

  def _pair(self, weight: table.Weight) -> dict[str, table.Weight]:
    L, d_in, d_out = weight.shape
    _, axis_in, axis_out = weight.axes
    name = (
      "base_model.model." + weight.hf_name.removesuffix("weight") + "lora_{}.weight"
    )
    return {
      "a": table.Weight(
        (L, d_in, self.rank),
        ("layers", axis_in, None),
        name.format("A", layer="{layer}"),
        transposed=True,
      ),
      "b": table.Weight(
        (L, self.rank, d_out),
        ("layers", None, axis_out),
        name.format("B", layer="{layer}"),
        transposed=True,
      ),
    }

  def init(
    self, seed: int, config: decoder_config.DecoderConfig, shardings: Any
  ) -> table.Params:
    """A uniform within +-1 / sqrt(d_in), as PEFT draws it; B zero; float32."""

    def draw() -> table.Params:
      adapters = {}
      for name, pair in self.declare(config).items():
        key = jax.random.fold_in(jax.random.key(seed), TARGETS.index(name))
        bound = pair["a"].shape[1] ** -0.5
        a = jax.random.uniform(key, pair["a"].shape, minval=-bound, maxval=bound)
        adapters[name] = {"a": a, "b": jnp.zeros(pair["b"].shape, jnp.float32)}
      return adapters

    return jax.jit(draw, out_shardings=shardings)()

  def join(self, base: table.Params, adapters: table.Params) -> table.Params:
    """The parameters that the model computes with; nothing is copied."""
    layers = dict(base["layers"])
    for name, pair in adapters.items():
      layers[name] = Adapted(layers[name], pair["a"], pair["b"], self.scale)
    return base | {"layers": layers}

  def merge(self, base: table.Params, adapters: table.Params) -> table.Params:
    """Plain parameters: W + scale * A B, in float32."""
    layers = dict(base["layers"])
    for name, pair in adapters.items():
      low = matmul.einsum("lir,lro->lio", pair["a"], pair["b"])
      layers[name] = layers[name] + self.scale * low
    return base | {"layers": layers}

  def save(
    self,
    folder: epath.PathLike,
    adapters: table.Params,
    config: decoder_config.DecoderConfig,
    base_model: str,
    dtype: str = "float32",
  ) -> None:
    """Writes a directory that `peft.PeftModel.from_pretrained` loads.

    Args:
      adapters: from any mesh; where it spans processes, all call this.
      base_model: where the frozen weights are, for whoever loads it.
    """
    folder = epath.Path(folder)
    tensors = dict(weights.hf_tensors(adapters, self.declare(config), dtype))
    if not processes.first():
      return
    with files.publish(folder / WEIGHTS, "wb") as file:
      file.write(weights.encode(tensors))
    hf_names = [pair["a"].hf_name for pair in self.declare(config).values()]
    wanted = {
      "peft_type": "LORA",
      "task_type": "CAUSAL_LM",
      "base_model_name_or_path": base_model,
      "r": self.rank,
      "lora_alpha": self.alpha,
      "target_modules": [name.split(".")[-3] for name in hf_names],
      "lora_dropout": 0.0,
      "bias": "none",
      "inference_mode": True,
    }
    files.write_json(folder / CONFIG, wanted)


def from_config(config: ml_collections.ConfigDict) -> Lora | None:
  """What `config` describes; None where all weights are trained.

  Raises:
    UserError: a rank or a target that cannot be.
  """
  if config.rank < 0:
    raise errors.UserError(f"lora.rank={config.rank}: at least 1, or 0 for no LoRA")
  if not config.rank:
    return None
  unknown = [name for name in config.targets if name not in TARGETS]
  if unknown or not config.targets:
    raise errors.UserError(
      f"lora.targets={tuple(config.targets)}: some of {', '.join(TARGETS)}"
    )
  if config.alpha <= 0:
    raise errors.UserError(f"lora.alpha={config.alpha}: must be above 0")
  return Lora(config.rank, float(config.alpha), tuple(config.targets))


def join(lora: Lora | None, frozen: Any, trained: table.Params) -> table.Params:
  """The model's parameters from what is frozen (None without LoRA) and trained."""
  return trained if lora is None else lora.join(frozen, trained)
