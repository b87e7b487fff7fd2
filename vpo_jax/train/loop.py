"""The training loop: state in, state out, and everything beside it on disk."""

import dataclasses
import math
import time
import typing
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest, order, packing
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder import model, sharding
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console, preemption, watchdog
from vpo_jax.train import checkpoint, log, optimizer, work
from vpo_jax.train import matmul_rate as rates
from vpo_jax.train import objective as objectives
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples, and their reference log-probabilities where the loss wants them."""

  examples: Sequence[data_examples.Example]
  reference_XE: np.ndarray | None = None


def get_config() -> ml_collections.ConfigDict:
  """What both stages train with; paper and release numbers are in configs/."""
  return ml_collections.ConfigDict(
    {
      "batch_size": 64,  # examples (pairs) a step, over all devices
      "epochs": 1,
      "seed": 0,
      "shuffle": True,  # False: file order, to compare with other trainers
      "max_tokens": 2048,  # prompt and response; release, cutoff_len
      "micro_tokens": 4096,  # row tokens a device holds at once; sets the memory
      "shapes": 4,  # of micro-batches, at most: more is less padding, more to compile
      "precision": "bfloat16",  # operands of products; weights stay float32
      "remat": "full",  # layers computed again in the backward pass; "cheap", "none"
      "eval_every": 50,  # steps
      "checkpoint_every": 50,  # steps
      "keep_checkpoints": 2,  # the last ones, and the one with the best eval/loss
      "optimizer": optimizer.get_config(),
      "mesh": sharding.get_config(),
      "lora": loras.get_config(),
    }
  )


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for values that could only fail later."""
  for key in (
    "batch_size",
    "epochs",
    "max_tokens",
    "micro_tokens",
    "shapes",
    "eval_every",
  ):
    if config[key] < 1:
      raise errors.UserError(f"{key}={config[key]}: must be at least 1")
  if config.precision not in ("float32", "bfloat16"):
    raise errors.UserError(f"precision={config.precision!r}: one of float32, bfloat16")
  remats = typing.get_args(model.Remat)
  if config.remat not in remats:
    raise errors.UserError(f"remat={config.remat!r}: one of {', '.join(remats)}")
  optimizer.schedule(config.optimizer, 1)
  loras.from_config(config.lora)


def fit(
  name: str,
  folder: epath.Path,
  config: ml_collections.ConfigDict,
  policy: policies.Policy,
  objective: objectives.Objective,
  params: Params,
  placement: sharding.Placement,
  train: Split,
  heldout: Split,
) -> tuple[Params, log.Log, packing.Plan]:
  """Trains `params`, or what the folder's last checkpoint has made of them.

  Returns the trained parameters: the model's, or with LoRA its adapters (`params` then
  stay as they are).

  The order of the data is a function of the seed and the step, so a killed run goes on
  to the same end. Evaluations with the best loss so far are saved besides the others.

  Raises:
    UserError: a loss is not finite; names the step and its examples.
    SystemExit: with `preemption.EXIT_CODE`, after SIGTERM, when the state is saved.
  """
  batches = order.batches(
    len(train.examples), config.batch_size, config.epochs, config.seed, config.shuffle
  )
  plan = make_plan(config, policy, placement, train, batches, config.shapes)
  # While there is memory: the optimizer's state comes later.
  matmul = rates.of_mesh(
    policy.config, plan.shapes[0], config.precision, placement.mesh
  )
  tx = optimizer.make(config.optimizer, len(batches))
  rate = optimizer.schedule(config.optimizer, len(batches))
  lora = loras.from_config(config.lora)
  trained, frozen = params, None
  if lora:
    shardings = sharding.params(
      policy.config, placement.mesh, lora.declare(policy.config)
    )
    placement = sharding.Placement(placement.mesh, shardings)
    trained, frozen = lora.init(config.seed, policy.config, shardings), params
  step_fn = train_step.compiled(
    train_step.make_step(policy, objective, tx, placement, lora)
  )
  evaluate = _Evaluation(config, policy, objective, placement, heldout)
  feed = Feed(train, plan, placement)

  with (
    checkpoint.open_in(folder, config.keep_checkpoints) as checkpoints,
    preemption.noticed() as preempted,
    watchdog.watched() as watch,
  ):
    state = train_step.init(trained, tx, placement)
    del params, trained  # the step donates what it trains
    start = checkpoints.latest() or 0
    if start:
      state = checkpoints.restore(start, state)
    metrics = log.Log(folder, start or -1)  # without a checkpoint, no row counts
    if not start:
      metrics.add(0, evaluate(loras.join(lora, frozen, state.params), watch))
    report = _Report(metrics, train, plan, policy, batches, rate, matmul)
    with console.progress(name, len(batches), start) as advance:
      for step in range(start, len(batches)):
        watch.step(f"step {step + 1}")
        began = time.perf_counter()
        batch = feed(step)  # laid out while the step before runs
        waited = time.perf_counter() - began
        state, values = step_fn(state, frozen, *batch)
        # Read the step before this one, while this one runs.
        advance(report.dispatched(step, values, waited), report.note)
        done = step + 1
        last, leaving = done == len(batches), preempted(done)
        evaluates = last or done % config.eval_every == 0
        saves = last or leaving or done % config.checkpoint_every == 0
        if evaluates or saves:
          advance(report.flush(), report.note)
          if evaluates:
            values = evaluate(loras.join(lora, frozen, state.params), watch)
            saves = _evaluate(metrics, done, values) or saves
          if saves:
            watch.pause()  # storage may take minutes
            metrics.publish()
            checkpoints.save(done, state, metrics.at(done, "eval/loss"))
          report.start_clock()
        if leaving and not last:
          checkpoints.wait()
          console.say(f"SIGTERM: saved step {done}; run the same command to go on")
          raise SystemExit(preemption.EXIT_CODE)
    metrics.close()
  return state.params, metrics, plan


def _evaluate(metrics: log.Log, step: int, values: dict[str, float]) -> bool:
  """Logs an evaluation; whether its loss is the run's best since training began."""
  earlier = [row["eval/loss"] for row in metrics.rows[1:] if "eval/loss" in row]
  metrics.add(step, values)
  return values["eval/loss"] < min(earlier, default=math.inf)


class Feed:
  """What the compiled step takes, for each step of a plan."""

  def __init__(self, split: Split, plan: packing.Plan, placement: sharding.Placement):
    self._split, self._plan, self._placement = split, plan, placement
    # Micro-batches of a shape are stacked to one height, compiled once.
    self._most: dict[forest.Shape, int] = {}
    for shape, micros in zip(plan.shapes, plan.steps, strict=True):
      self._most[shape] = max(self._most.get(shape, 0), len(micros))

  def __call__(self, step: int) -> tuple[forest.Forest, np.int32, forest.Shape]:
    """The micro-batches of a step on their devices, how many count, their shape."""
    shape, micros = self._plan.shapes[step], self._plan.steps[step]
    built = [
      forest.build(
        self._split.examples,
        shape,
        micro,
        self._split.reference_XE,
        self._placement.own_groups,
      )
      for micro in micros
    ]
    batch = train_step.put(built, self._most[shape], self._placement)
    return batch, np.int32(len(micros)), shape


def make_plan(
  config: ml_collections.ConfigDict,
  policy: policies.Policy,
  placement: sharding.Placement,
  split: Split,
  batches: Sequence[Sequence[int]],
  shapes: int = 1,
) -> packing.Plan:
  """Packs the batches of a split for these devices."""
  return packing.plan(
    split.examples,
    batches,
    groups=sharding.groups(placement.mesh),
    budget=config.micro_tokens,
    flops_per_token=policy.config.flops_per_token,
    shapes=shapes,
  )


class _Evaluation:
  """Mean metrics over the held-out split, under names that begin with `eval/`."""

  def __init__(self, config, policy, objective, placement, split: Split):
    size = config.batch_size
    indices = range(len(split.examples))
    batches = [list(indices[i : i + size]) for i in range(0, len(indices), size)]
    self._plan = make_plan(config, policy, placement, split, batches)
    self._split, self._placement = split, placement
    self._evaluate = train_step.make_evaluate(policy, objective)

  def __call__(self, params: Params, watch: watchdog.Watch) -> dict[str, float]:
    sums: dict[str, float] = {}
    for shape, micros in zip(self._plan.shapes, self._plan.steps, strict=True):
      for micro in micros:
        watch.step("a micro-batch of the evaluation")
        own = forest.build(
          self._split.examples,
          shape,
          micro,
          self._split.reference_XE,
          self._placement.own_groups,
        )
        batch = self._placement.lay(own)
        for name, value in self._evaluate(params, batch, shape).items():
          sums[name] = sums.get(name, 0.0) + float(value)
    weight = sums.pop("weight")
    return {f"eval/{name}": value / weight for name, value in sums.items()}


class _Report:
  """Metrics of a step, read once the next one has been dispatched."""

  def __init__(self, metrics, train, plan, policy, batches, rate, matmul):
    self._metrics, self._train, self._plan = metrics, train, plan
    self._policy, self._batches, self._rate = policy, batches, rate
    self._matmul = matmul
    self._waiting: tuple[int, Any, float] | None = None
    self.start_clock()
    self.note = ""

  def start_clock(self) -> None:
    """Evaluations and saves are no part of a step's time."""
    self._clock = time.perf_counter()

  def dispatched(self, step: int, values: Any, waited: float) -> int:
    """Takes a step's metrics, reads the former's; returns how many were read.

    Args:
      waited: seconds that laying out its batch took.
    """
    read = self.flush()
    self._waiting = (step, values, waited)
    return read

  def flush(self) -> int:
    if self._waiting is None:
      return 0
    (step, values, waited), self._waiting = self._waiting, None
    row = {name: float(value) for name, value in values.items()}
    batch = [self._train.examples[index] for index in self._batches[step]]
    if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
      ids = ", ".join(example.id for example in batch)
      raise errors.UserError(
        f"step {step + 1}: loss {row['loss']}, gradient norm {row['grad_norm']};"
        f" stopped before it was saved; the batch's rows: {ids}"
      )
    now = time.perf_counter()
    seconds, self._clock = now - self._clock, now
    row["learning_rate"] = float(self._rate(step))
    row["examples_per_second"] = len(batch) / seconds
    row["data_wait"] = waited / seconds  # a share; 0 in truth where a step hides it
    stem, micros = self._plan.shapes[step].stem, self._plan.steps[step]
    done = work.of_step(self._train.examples, stem, micros, self._policy.config)
    row |= done.rates(seconds)
    row["fraction_of_matmul"] = row["model_flops_per_second"] / self._matmul
    self._metrics.add(step + 1, row)
    self.note = f"loss {row['loss']:.3f}"
    return 1
