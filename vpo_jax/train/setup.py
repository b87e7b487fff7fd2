"""What both training stages do before the loop: model, mesh, tokens."""

import dataclasses
from typing import Literal

import jax
import ml_collections
from etils import epath

from vpo_jax import errors, records
from vpo_jax.data import chat
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, sharding, source, weights
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console, processes
from vpo_jax.train import policy as policies


@dataclasses.dataclass(frozen=True)
class Setup:
  """A model's directory, its computation, and where it lives."""

  base: epath.Path
  tokenizer: chat.Tokenizer
  policy: policies.Policy
  placement: sharding.Placement

  def load(self) -> Params:
    return weights.load(self.base, self.policy.config, self.placement.params)


def open_model(config: ml_collections.ConfigDict, model: str) -> Setup:
  """Reads everything but the weights; raises UserError before any of them is read."""
  base = source.resolve(model)
  architecture = decoder_config.read(base)
  placement = sharding.place(architecture, sharding.make_mesh(config.mesh))
  parts = sharding.groups(placement.mesh)
  if config.batch_size % parts:
    raise errors.UserError(
      f"batch_size={config.batch_size} does not divide over the mesh's {parts} parts"
      " (data x fsdp)"
    )
  return Setup(
    base=base,
    tokenizer=chat.load_tokenizer(base),
    policy=policies.Policy(
      architecture, config.precision, config.remat, placement.batch
    ),
    placement=placement,
  )


def save_model(
  folder: epath.Path,
  setup: Setup,
  config: ml_collections.ConfigDict,
  params: Params,
  trained: Params,
) -> None:
  """Writes `folder/model`, and with LoRA the adapters alone as `folder/adapter`.

  Args:
    params: what training began with; with LoRA, still there.
    trained: as `loop.fit` returned it.
  """
  architecture = setup.policy.config
  lora = loras.from_config(config.lora)
  if lora:
    name = str(setup.base)
    lora.save(folder / "adapter", trained, architecture, name, config.save_dtype)
    merge = jax.jit(lora.merge, out_shardings=setup.placement.params)
    trained = merge(params, trained)
  directory.save_model(
    folder / "model", trained, architecture, setup.base, config.save_dtype
  )


def read_examples(
  path: epath.Path,
  setup: Setup,
  kind: Literal["sft", "dpo"],
  config: ml_collections.ConfigDict,
  folder: epath.Path,
) -> list[data_examples.Example]:
  """Reads a split; rows that cannot be used go to `set_aside_<file>.jsonl`."""
  limit = min(config.max_tokens, setup.policy.config.context)
  examples, aside = data_examples.read(path, setup.tokenizer, kind, limit)
  if aside:
    out = folder / f"set_aside_{path.stem}.jsonl"
    if processes.first():
      records.write(out, aside)
    console.say(f"{path.name}: {len(aside)} rows set aside, see {out}")
  return examples
