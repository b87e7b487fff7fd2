"""Setup that both training stages share: the model, its mesh, examples and saving."""

import dataclasses
from typing import Literal

import jax
import ml_collections
from etils import epath

from vpo_jax import errors, records, stages, templates
from vpo_jax.data import chat
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, sharding, source, weights
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console, processes
from vpo_jax.train import loop, reference
from vpo_jax.train import policy as policies


@dataclasses.dataclass(frozen=True)
class Setup:
  """A model's directory, how it is computed, and where its parameters are placed."""

  base: epath.Path
  format: chat.Format
  policy: policies.Policy
  placement: sharding.Placement

  def load(self) -> Params:
    return weights.load(self.base, self.policy.config, self.placement.params)


def open_model(config: ml_collections.ConfigDict, base: epath.Path) -> Setup:
  """Reads everything of a model directory but the weights.

  Args:
    config: the training config; `mesh`, `batch_size`, `precision`, `remat` and
      `reasoning` are read.

  Raises:
    UserError: the directory is not a model that can be trained, or the mesh does not
      fit the devices, the model or the batch.
  """
  architecture = decoder_config.read(base)
  weights.check(base, architecture)
  placement = sharding.place(architecture, sharding.make_mesh(config.mesh))
  parts = sharding.groups(placement.mesh)
  if config.batch_size % parts:
    raise errors.UserError(
      f"config.batch_size={config.batch_size} is not divisible by the mesh's {parts}"
      " data-parallel parts (data x fsdp)"
    )
  policy = policies.Policy(
    architecture, config.precision, config.remat, placement.batch
  )
  chat_format = chat.load(base, architecture.vocab, config.reasoning)
  return Setup(base, chat_format, policy, placement)


def check_model(model: str, reasoning: bool) -> None:
  """Checks a model directory without loading it; a model on the hub is not checked.

  Args:
    model: as in `source.resolve`.

  Raises:
    UserError: see `open_model`.
  """
  if model != source.SMOLLM2 and not epath.Path(model).exists():
    return
  base = source.resolve(model)
  architecture = decoder_config.read(base)
  weights.check(base, architecture)
  chat.load(base, architecture.vocab, reasoning)


def inputs(config: stages.Config) -> stages.Inputs:
  """The instruction template, if the config names one."""
  return (stages.Input("instruction"),) if config.instruction else ()


def instruction(work: stages.Work, base: epath.Path) -> str:
  """The template that the training rows were filled from, or else the base's.

  Args:
    base: the directory of the model that training starts from.

  Raises:
    UserError: no row matches the template that the config names or that is stored with
      the rows.
  """
  rows = work.inputs["train"]
  beside = rows.parent / templates.INSTRUCTION
  path = work.config.instruction or (beside if beside.exists() else "")
  text = templates.of_model(base, path)
  if not any(templates.is_filled(text, turn) for turn in data_examples.queries(rows)):
    problem = f"{rows}: no row's user message matches the template {{}}"
    remedy = "set config.instruction to the template of the rows"
    if path:
      raise errors.UserError(f"{problem.format(path)}; {remedy}")
    console.say(f"{problem.format('of the model')}; {remedy}")
  elif text != templates.of_model(base) and (base / templates.INSTRUCTION).exists():
    console.say(f"{work.name}: the instruction differs from that of {base}")
  return text


def save_model(
  work: stages.Work, setup: Setup, params: Params, trained: Params, template: str
) -> None:
  """Writes `<folder>/model`, and with LoRA the adapters alone as `<folder>/adapter`.

  Args:
    params: the parameters that training started from; used with LoRA only.
    trained: as `loop.fit` returned them.
    template: the instruction of the training rows, which is stored in the model.
  """
  config, architecture = work.config, setup.policy.config
  lora = loras.from_config(config.lora)
  if lora:
    adapter = work.folder / "adapter"
    lora.save(adapter, trained, architecture, setup.base, config.save_dtype)
    merge = jax.jit(lora.merge, out_shardings=setup.placement.params)
    trained = merge(params, trained)
  model = work.folder / "model"
  directory.save_model(
    model,
    trained,
    architecture,
    setup.base,
    config.save_dtype,
    extra={templates.INSTRUCTION: template.encode()},
  )


def with_reference(
  work: stages.Work, key: str, split: loop.Split, params: Params, setup: Setup
) -> loop.Split:
  """The split with reference log-probabilities, stored as `reference_<key>.npz`.

  Args:
    params: of the reference model.
  """
  if not split.examples:
    return split
  config = work.config
  logps, difference = reference.logps(
    work.folder / f"reference_{key}.npz",
    split.examples,
    params,
    setup.policy,
    setup.placement,
    batch_size=config.batch_size,
    budget=config.micro_tokens,
    check_packing=config.check_packing,
    hang_minutes=config.hang_minutes,
  )
  return dataclasses.replace(split, reference=logps, reference_difference=difference)


def read_examples(
  work: stages.Work,
  key: Literal["train", "heldout"],
  setup: Setup,
  kind: Literal["sft", "dpo"],
) -> list[data_examples.Example]:
  """Reads the input `key` as tokens; bad rows go to `set_aside_<key>.jsonl`.

  Returns: the examples; none if the held-out file has no rows, or does not exist and
    was not named by the config.

  Raises:
    UserError: a file that the config names does not exist, or has no usable row.
  """
  if key == "heldout" and key not in work.inputs:
    if work.config.heldout:
      raise errors.UserError(f"config.heldout={work.config.heldout}: no such file")
    return []
  path = work.inputs[key]
  limit = min(work.config.max_tokens, setup.policy.config.context)
  examples, aside = data_examples.read(
    path, setup.format, kind, limit, may_be_empty=key == "heldout"
  )
  if aside:
    out = work.folder / f"set_aside_{key}.jsonl"
    if processes.first():
      records.write(out, aside)
    console.say(f"{path.name}: {len(aside)} rows set aside, see {out}")
  return examples
