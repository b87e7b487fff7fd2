"""A training stage's own step, as a program for `interleave`."""

import statistics
import time
from collections.abc import Container, Sequence
from typing import Any, Literal

import jax
import ml_collections
import numpy as np
from etils import epath

from configs import dpo as dpo_config
from configs import sft as sft_config
from configs import train_groups as groups_config
from vpo_jax.data import examples as data_examples
from vpo_jax.data import order
from vpo_jax.decoder import lora as loras
from vpo_jax.train import (
  computation,
  group_objective,
  loop,
  objective,
  optimizer,
  pair_objective,
  reference,
  setup,
)
from vpo_jax.train import step as train_step

Kind = Literal["sft", "dpo"]
Trained = Literal["sft", "dpo", "groups"]
_CONFIGS = {"sft": sft_config, "dpo": dpo_config, "groups": groups_config}


def make_config(kind: Trained, batch: int, **changes: Any) -> ml_collections.ConfigDict:
  """The stage's config for one device, with rows in file order."""
  config = _CONFIGS[kind].get_config()
  config.update(batch_size=batch, epochs=1, shuffle=False, **changes)
  config.mesh.update(fsdp=1, devices=1)
  return config


def read_program(
  kind: Kind,
  config: ml_collections.ConfigDict,
  model: str,
  path: epath.Path,
) -> "Program":
  """The training step on the rows of a file."""
  opened = setup.open_model(config, epath.Path(model))
  examples, _ = data_examples.read(path, opened.format, kind, config.max_tokens)
  return Program(kind, config, opened, examples)


class Program:
  """The training step of the stage, as a program for `interleave`."""

  def __init__(
    self,
    kind: Trained,
    config: ml_collections.ConfigDict,
    model: setup.Setup,
    examples: Sequence[data_examples.Example],
  ):
    self.model = model
    policy, placement = self.model.policy, self.model.placement
    self._batches = order.batches(len(examples), config.batch_size, 1, 0, False)
    self._objective = objective.sft
    values = None
    if kind == "dpo":
      self._objective = pair_objective.from_config(config)
      if config.loss not in pair_objective.REFERENCE_FREE:
        values = reference.zeros(examples)
    rewards = None
    if kind == "groups":
      self._objective = group_objective.plackett_luce(config.beta)
      values = reference.zeros(examples)
      shape = len(examples), len(examples[0].responses)
      rewards = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    self._values = values
    self._split = loop.Split(examples, values, rewards)
    self.plan = loop.make_plan(
      config, policy, placement, self._split, self._batches, config.shapes
    )
    self._feed = loop.Feed(self._split, self.plan, placement)
    tx = optimizer.make(config.optimizer, len(self._batches))
    self.lora = loras.from_config(config.lora)
    trained, self._frozen, placement = loras.split(
      self.lora, self.model.load(), config.seed, policy.config, placement
    )
    self._jitted: Any = train_step.make_step(
      policy, self._objective, tx, placement, self.lora
    )
    self._step_fn = train_step.compiled(self._jitted)
    self._state = train_step.init(trained, tx, placement)
    self._seconds: list[tuple[int, float, float]] = []  # step, wall, CPU
    self.losses: list[float] = []

  def warm_up(self) -> None:
    """Runs one step of each shape."""
    for shape in dict.fromkeys(self.plan.shapes):
      self._run(self.plan.shapes.index(shape))

  def __call__(self, step: int) -> int:
    wall, cpu = time.perf_counter(), time.process_time()
    self._run(step)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    self._seconds.append((step, wall, cpu))
    return len(self._batches[step])

  def _run(self, index: int) -> None:
    split, model = self._split, self.model
    if self._values is not None:
      # Without LoRA the trained weights serve as the reference: the time does not
      # depend on them.
      reference.fill(
        self._values,
        split.examples,
        self.plan,
        index,
        self._state.params if self._frozen is None else self._frozen,
        model.policy,
        model.placement,
      )
    self._state, values = self._step_fn(self._state, self._frozen, *self._feed(index))
    loss = float(values["loss"])
    assert np.isfinite(loss), f"loss {loss}"
    self.losses.append(loss)

  def compiled(self) -> tuple[str, int]:
    """The HLO text of the first step, and its number of micro-batches."""
    lowered = self._jitted.lower(self._state, self._frozen, *self._feed(0))
    return lowered.compile().as_text(), len(self.plan.steps[0])

  @property
  def trainable_parameters(self) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(self._state.params))

  def state_bytes(self) -> int:
    """Bytes of trained parameters and optimizer state on the first device."""
    device = jax.devices()[0]
    shards = [s for x in jax.tree.leaves(self._state) for s in x.addressable_shards]
    return sum(s.data.nbytes for s in shards if s.device == device)

  def rates(self, steps: Container[int]) -> dict[str, float]:
    """Median rates over these steps."""
    rates = []
    for index, seconds, cpu in self._seconds:
      if index not in steps:
        continue
      shape, micros = self.plan.shapes[index], self.plan.steps[index]
      step = self._split.examples, shape.stem, micros, self.model.policy.config
      row = computation.of_step(*step, self.lora is not None).rates(seconds)
      if self._values is not None:  # one more forward pass
        forward = computation.of_step(*step).flops / 3
        row["model_flops_per_second"] += forward / seconds
      examples = len(self._batches[index])
      row["cpu_seconds_per_example"] = cpu / examples
      row["model_flops_per_cpu_second"] = row["model_flops_per_second"] * seconds / cpu
      rates.append({"examples_per_second": examples / seconds, **row})
    return {name: statistics.median(row[name] for row in rates) for name in rates[0]}
