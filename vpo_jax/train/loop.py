"""The training loop: batches in, checkpoints, metrics and trained parameters out."""

import dataclasses
import itertools
import math
import time
import typing
from collections.abc import Sequence

import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath

from vpo_jax import errors, stages
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest, order, packing
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder import model, sharding
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console, preemption, watchdog
from vpo_jax.train import checkpoint, log, mirror, optimizer, packing_check, report
from vpo_jax.train import objective as objectives
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples, with what the loss needs of them.

  Attributes:
    reference: log-probabilities of the tokens under the reference model, in nats.
    reward_XE: the rewards of the responses.
    reference_difference: what the packing check of the reference pass found, in nats.
  """

  examples: Sequence[data_examples.Example]
  reference: forest.TokenValues | None = None
  reward_XE: np.ndarray | None = None
  reference_difference: float | None = None


# Config keys that change how a run is executed, not what it computes: they may change
# when a killed run continues.
EXECUTION_KEYS = (
  "micro_tokens",
  "shapes",
  "remat",
  "mesh.*",
  "eval_every",
  "checkpoint_every",
  "keep_checkpoints",
  "check_packing",
  "measure_matmul_rate",
  "hang_minutes",
)


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained, and how.

  Attributes:
    name: the progress bar's title.
    work: the stage's work; its config and its folder are used.
    policy: the model's computation.
    placement: where the model's parameters and the batch are placed.
    objective: the loss.
  """

  name: str
  work: stages.Work
  policy: policies.Policy
  placement: sharding.Placement
  objective: objectives.Objective

  @property
  def config(self) -> ml_collections.ConfigDict:
    return self.work.config


@dataclasses.dataclass(frozen=True)
class Fitted:
  """A finished training.

  Attributes:
    params: the trained parameters; with LoRA its adapters.
    metrics: the rows of metrics.jsonl.
    plan: how the batches were packed.
    differences: what the packing check found, for the stage's counts.
  """

  params: Params
  metrics: log.Log
  plan: packing.Plan
  differences: dict[str, float | None]

  def counts(self) -> stages.Counts:
    """What every training stage counts; losses are None without held-out examples."""
    return {
      "steps": len(self.plan.steps),
      "padding": self.plan.padding,
      **self.differences,
      "loss_before": self.metrics.first("eval/loss"),
      "loss_after": self.metrics.last("eval/loss"),
    }


def check(
  config: ml_collections.ConfigDict, folder: epath.PathLike | None = None
) -> None:
  """Raises UserError for what would only fail after expensive work.

  Args:
    folder: where the checkpoints will be saved, if they are.
  """
  if folder is not None:
    mirror.check(folder)
  for key in (
    "batch_size",
    "epochs",
    "max_tokens",
    "micro_tokens",
    "shapes",
    "eval_every",
  ):
    if config[key] < 1:
      raise errors.UserError(f"config.{key}={config[key]}: must be at least 1")
  if config.precision not in ("float32", "bfloat16"):
    raise errors.UserError(
      f"config.precision={config.precision!r}: must be float32 or bfloat16"
    )
  remats = typing.get_args(model.Remat)
  if config.remat not in remats:
    raise errors.UserError(
      f"config.remat={config.remat!r}: must be one of {', '.join(remats)}"
    )
  optimizer.schedule(config.optimizer, 1)
  loras.from_config(config.lora)


def fit(task: Task, params: Params, train: Split, heldout: Split) -> Fitted:
  """Trains from `params`, or continues from the folder's last checkpoint.

  The order of the data is a function of the seed and the step, so a killed run that
  continues ends with the same parameters as one that was not killed. The checkpoint
  with the best evaluation loss is kept in addition to the latest ones. Without held-out
  examples nothing is evaluated, and only the latest checkpoints are kept.
  With LoRA, `params` stay as they are.

  Raises:
    UserError: a loss is not finite (names the step and its examples), or the packed
      forest and plain rows differ.
    SystemExit: with `preemption.EXIT_CODE`, after SIGTERM, once the state is saved.
  """
  config, placement = task.config, task.placement
  batches = order.batches(
    len(train.examples), config.batch_size, config.epochs, config.seed, config.shuffle
  )
  plan = make_plan(config, task.policy, placement, train, batches, config.shapes)
  run_report = report.Report(
    config, task.policy.config, placement.mesh, train.examples, plan, batches
  )
  tx = optimizer.make(config.optimizer, len(batches))
  lora = loras.from_config(config.lora)
  trained, frozen, placement = loras.split(
    lora, params, config.seed, task.policy.config, placement
  )
  differences = _check_packing(task, train, plan, placement, trained, lora, frozen)
  step_fn = train_step.compiled(
    train_step.make_step(task.policy, task.objective, tx, placement, lora)
  )
  evaluate = _Evaluation(task, heldout) if heldout.examples else None
  feed = Feed(train, plan, placement)

  with (
    checkpoint.open_in(task.work.folder, config.keep_checkpoints) as checkpoints,
    preemption.deferred() as preempted,
    watchdog.watched(config.hang_minutes) as watch,
  ):
    state = train_step.init(trained, tx, placement)
    del params, trained  # the step donates what it trains
    start, state = checkpoints.restore_latest(state)
    metrics = log.Log(task.work.folder, start or -1)  # -1: drop rows of a lost run
    if evaluate and not start:
      metrics.add(0, evaluate(loras.join(lora, frozen, state.params), watch))
    with console.progress(task.name, len(batches), start) as advance:
      run_report.start(metrics)
      for step in range(start, len(batches)):
        watch.step("training step", step + 1)
        began = time.perf_counter()
        batch = feed(step)  # built while the device still computes the previous step
        waited = time.perf_counter() - began
        state, values = step_fn(state, frozen, *batch)
        # Read the metrics of the previous step while this one runs.
        advance(run_report.dispatched(step, values, waited), run_report.note)
        done = step + 1
        last, leaving = done == len(batches), preempted(done)
        evaluates = evaluate and (last or done % config.eval_every == 0)
        saves = last or leaving or done % config.checkpoint_every == 0
        if evaluates or saves:
          advance(run_report.flush(), run_report.note)
          if evaluate and evaluates:
            values = evaluate(loras.join(lora, frozen, state.params), watch)
            saves = _is_best(metrics, done, values) or saves
          if saves:
            watch.pause()  # writing to storage may take minutes
            metrics.publish()
            checkpoints.save(done, state, metrics.at(done, "eval/loss"))
          run_report.start_clock()
        if leaving and not last:
          checkpoints.wait()
          console.say(f"SIGTERM: saved step {done}; run the same command to continue")
          raise SystemExit(preemption.EXIT_CODE)
    metrics.close()
  return Fitted(state.params, metrics, plan, differences)


def _check_packing(
  task: Task,
  train: Split,
  plan: packing.Plan,
  placement: sharding.Placement,
  trained: Params,
  lora: loras.Lora | None,
  frozen: Params | None,
) -> dict[str, float | None]:
  """Checks the first micro-batch (`packing_check.training`), for `Fitted`."""
  if not task.config.check_packing:
    return {}
  batch = packing_check.first_micro_batch(
    train.examples, plan, placement, train.reference, train.reward_XE
  )
  found = packing_check.training(
    task.policy, task.objective, placement, trained, *batch, lora, frozen
  )
  return {
    "packing_logp_difference": found.logp,
    "packing_gradient_difference": found.gradient,
    "packing_reference_difference": train.reference_difference,
  }


def _is_best(metrics: log.Log, step: int, values: dict[str, float]) -> bool:
  """Logs an evaluation; returns whether its loss is the best since training began."""
  earlier = [row["eval/loss"] for row in metrics.rows[1:] if "eval/loss" in row]
  metrics.add(step, values)
  return values["eval/loss"] < min(earlier, default=math.inf)


class Feed:
  """The inputs of the compiled step, for each step of a plan."""

  def __init__(self, split: Split, plan: packing.Plan, placement: sharding.Placement):
    self._split, self._plan, self._placement = split, plan, placement
    # All batches of one shape are padded to the same number of micro-batches, so that
    # each shape is compiled once.
    self._micros: dict[forest.Shape, int] = {}
    for shape, micros in zip(plan.shapes, plan.steps, strict=True):
      self._micros[shape] = max(self._micros.get(shape, 0), len(micros))

  def __call__(self, step: int) -> tuple[forest.Forest, np.int32, forest.Shape]:
    """Returns a step's micro-batches on their devices, their number, their shape."""
    shape, micros = self._plan.shapes[step], self._plan.steps[step]
    built = [_build(self._split, shape, micro, self._placement) for micro in micros]
    batch = train_step.put(built, self._micros[shape], self._placement)
    return batch, np.int32(len(micros)), shape


def _build(
  split: Split,
  shape: forest.Shape,
  micro: forest.Micro,
  placement: sharding.Placement,
) -> forest.Forest:
  """One micro-batch: the groups that this process's devices hold."""
  return forest.build(
    split.examples,
    shape,
    micro,
    split.reference,
    split.reward_XE,
    placement.own_groups,
  )


def make_plan(
  config: ml_collections.ConfigDict,
  policy: policies.Policy,
  placement: sharding.Placement,
  split: Split,
  batches: Sequence[Sequence[int]],
  shapes: int = 1,
) -> packing.Plan:
  """Packs the batches of a split into micro-batches for the mesh's devices."""
  return packing.plan(
    split.examples,
    batches,
    groups=sharding.groups(placement.mesh),
    budget=config.micro_tokens,
    flops_per_token=policy.config.flops_per_token,
    shapes=shapes,
  )


class _Evaluation:
  """Mean metrics over the held-out split; their names begin with `eval/`."""

  def __init__(self, task: Task, split: Split):
    size = task.config.batch_size
    indices = range(len(split.examples))
    batches = [list(indices[i : i + size]) for i in range(0, len(indices), size)]
    self._plan = make_plan(task.config, task.policy, task.placement, split, batches)
    self._split, self._placement = split, task.placement
    self._evaluate = train_step.make_evaluate(task.policy, task.objective)
    self._baseline = None
    if isinstance(task.objective, objectives.WithBaseline):
      self._baseline = train_step.make_baseline(task.policy, task.objective)

  def __call__(self, params: Params, watch: watchdog.Watch) -> dict[str, float]:
    sums: dict[str, float] = {}
    numbers = itertools.count(1)

    def batches(shape: forest.Shape, micros: Sequence[forest.Micro]):
      for micro in micros:
        watch.step("micro-batch of the evaluation", next(numbers))
        own = _build(self._split, shape, micro, self._placement)
        yield self._placement.shard_groups(own)

    for shape, micros in zip(self._plan.shapes, self._plan.steps, strict=True):
      baseline = jnp.zeros(())
      if self._baseline:
        parts = [self._baseline(params, one, shape) for one in batches(shape, micros)]
        total, weight = (jnp.stack(column).sum() for column in zip(*parts, strict=True))
        baseline = train_step.mean_baseline((total, weight))
      for batch in batches(shape, micros):
        for name, value in self._evaluate(params, batch, shape, baseline).items():
          sums[name] = sums.get(name, 0.0) + float(value)
    weight = sums.pop("weight")
    return {f"eval/{name}": value / weight for name, value in sums.items()}
