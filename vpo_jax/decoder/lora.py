"""LoRA (arXiv:2106.09685): trains a low-rank update of frozen weights.

y = x W + (alpha / rank) (x A) B. A starts random and B zero, so that training starts
at the frozen model.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
from etils import epath
from jaxtyping import Array, Float

from vpo_jax import errors, files, json_input
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import families, matmul, sharding, table, weights
from vpo_jax.runtime import processes

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # as PEFT
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
  """Rank and scale of the adapters, and the matrices that have one.

  Attributes:
    rank: columns of A and rows of B.
    alpha: the update is scaled by alpha / rank.
    targets: names of matrices in `table.table(config)["layers"]`.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...]

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def declare(self, config: decoder_config.DecoderConfig) -> dict[str, Any]:
    """The tree of the adapters' `Weight`s, with PEFT's names."""
    layers = table.table(config)["layers"]
    return {name: self._pair(layers[name]) for name in self.targets}

  def _pair(self, weight: table.Weight) -> dict[str, table.Weight]:
    layers, d_in, d_out = weight.shape
    _, axis_in, axis_out = weight.axes
    name = (
      "base_model.model." + weight.hf_name.removesuffix("weight") + "lora_{}.weight"
    )
    return {
      "a": table.Weight(
        (layers, d_in, self.rank),
        ("layers", axis_in, None),
        name.format("A", layer="{layer}"),
        transposed=True,
      ),
      "b": table.Weight(
        (layers, self.rank, d_out),
        ("layers", None, axis_out),
        name.format("B", layer="{layer}"),
        transposed=True,
      ),
    }

  def init(
    self, seed: int, config: decoder_config.DecoderConfig, shardings: Any
  ) -> table.Params:
    """Float32 adapters: A uniform in +-1 / sqrt(d_in) as in PEFT, B zero."""

    def random() -> table.Params:
      adapters = {}
      for name, pair in self.declare(config).items():
        key = jax.random.fold_in(jax.random.key(seed), TARGETS.index(name))
        bound = pair["a"].shape[1] ** -0.5
        a = jax.random.uniform(key, pair["a"].shape, minval=-bound, maxval=bound)
        adapters[name] = {"a": a, "b": jnp.zeros(pair["b"].shape, jnp.float32)}
      return adapters

    return jax.jit(random, out_shardings=shardings)()

  def join(self, base: table.Params, adapters: table.Params) -> table.Params:
    """The parameters of the adapted model, for the forward pass; copies nothing."""
    layers = dict(base["layers"])
    for name, pair in adapters.items():
      layers[name] = Adapted(layers[name], pair["a"], pair["b"], self.scale)
    return base | {"layers": layers}

  def merge(self, base: table.Params, adapters: table.Params) -> table.Params:
    """Plain parameters with the update added, W + scale * A B, in float32."""
    layers = dict(base["layers"])
    for name, pair in adapters.items():
      update = matmul.einsum("lir,lro->lio", pair["a"], pair["b"])
      layers[name] = layers[name] + self.scale * update
    return base | {"layers": layers}

  def peft(self, config: decoder_config.DecoderConfig) -> dict[str, Any]:
    """Arguments of `peft.LoraConfig` for the same adapters."""
    hf_names = [pair["a"].hf_name for pair in self.declare(config).values()]
    return {
      "task_type": "CAUSAL_LM",
      "r": self.rank,
      "lora_alpha": self.alpha,
      "target_modules": [name.split(".")[-3] for name in hf_names],
      "lora_dropout": 0.0,
      "bias": "none",
    }

  def save(
    self,
    folder: epath.PathLike,
    adapters: table.Params,
    config: decoder_config.DecoderConfig,
    base: epath.PathLike,
    dtype: str = "float32",
  ) -> None:
    """Writes a directory that `peft.PeftModel.from_pretrained` loads.

    Args:
      folder: created if missing.
      adapters: on any mesh. If the mesh spans processes, all must call this; the first
        one writes.
      config: of the base model.
      base: directory of the frozen weights, recorded for PEFT. If it is a model of text
        and images, the adapter is for its language model.
      dtype: type of the tensors in the file.
    """
    folder = epath.Path(folder)
    tensors = dict(weights.hf_tensors(adapters, self.declare(config), dtype))
    if not processes.first():
      return
    adapter_config = self.peft(config) | {
      "peft_type": "LORA",
      "base_model_name_or_path": str(base),
      "inference_mode": True,
    }
    hf = json_input.value(epath.Path(base) / "config.json")
    if families.of(hf).text_type:
      inside = "model.language_model.layers."
      tensors = {n.replace("model.layers.", inside): t for n, t in tensors.items()}
      modules = "|".join(adapter_config["target_modules"])
      adapter_config["target_modules"] = rf".*\.language_model\..*\.({modules})"
    with files.publish(folder / WEIGHTS, "wb") as file:
      file.write(weights.encode(tensors))
    files.write_json(folder / CONFIG, adapter_config)


def from_config(config: ml_collections.ConfigDict) -> Lora | None:
  """The adapters that `config` describes, or None to train all weights.

  Raises:
    UserError: rank, alpha or targets are out of range.
  """
  if config.rank < 0:
    raise errors.UserError(
      f"config.lora.rank={config.rank}: must be positive, or 0 to train all weights"
    )
  if not config.rank:
    return None
  unknown = [name for name in config.targets if name not in TARGETS]
  if unknown or not config.targets:
    raise errors.UserError(
      f"config.lora.targets={tuple(config.targets)}: must be some of"
      f" {', '.join(TARGETS)}"
    )
  if config.alpha <= 0:
    raise errors.UserError(f"config.lora.alpha={config.alpha}: must be positive")
  return Lora(config.rank, float(config.alpha), tuple(config.targets))


def split(
  lora: Lora | None,
  params: table.Params,
  seed: int,
  config: decoder_config.DecoderConfig,
  placement: sharding.Placement,
) -> tuple[table.Params, table.Params | None, sharding.Placement]:
  """What a training from `params` trains, what it freezes, and the trained's placement.

  Without LoRA all of `params` are trained and nothing is frozen.

  Args:
    seed: of the adapters' random matrices.
    config: of the model.
    placement: of `params`.
  """
  if lora is None:
    return params, None, placement
  shardings = sharding.params(config, placement.mesh, lora.declare(config))
  adapters = lora.init(seed, config, shardings)
  return adapters, params, sharding.Placement(placement.mesh, shardings)


def join(lora: Lora | None, frozen: Any, trained: table.Params) -> table.Params:
  """The model's parameters from the frozen (None without LoRA) and trained ones."""
  return trained if lora is None else lora.join(frozen, trained)
