"""Training throughput, and TRL's on the same rows."""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any, Literal

import jax
import ml_collections
import numpy as np
from etils import epath

from configs import dpo as dpo_config
from configs import sft as sft_config
from configs import train_groups as groups_config
from vpo_jax import errors
from vpo_jax.bench import interleave, machine, rows, trl
from vpo_jax.bench import shapes as known_shapes
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forms, order
from vpo_jax.runtime import console
from vpo_jax.train import (
  computation,
  group_objective,
  loop,
  matmul_rate,
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


def bench(
  kind: Kind,
  model: str,
  queries: Sequence[str],
  *,
  batch: int,
  steps: int,
  precision: str,
  micro_tokens: int = 4096,
  remat: str = "cheap",
  shapes: int = 1,
  against: Sequence[trl.Setting] = (),
) -> dict[str, Any]:
  """Times `steps` training steps, each preceded by an untimed one.

  Args:
    queries: one per example.
    against: settings of TRL to interleave with, each in a subprocess.

  Returns:
    rates of the median step (DPO's time includes the reference pass) and, for each
    setting in `against`, TRL's rate, memory and the median ratio of our rate to it, or
    its `error`.
  """
  with tempfile.TemporaryDirectory() as folder:
    root = epath.Path(folder)
    base = known_shapes.resolve(model, root / "model")
    train, calls = root / "train.json", interleave.calls(steps)
    train.write_text(json.dumps(rows.make(kind, queries, batch * calls)))
    config = make_config(
      kind,
      batch,
      precision=precision,
      micro_tokens=micro_tokens,
      remat=remat,
      shapes=shapes,
    )
    with _compile_seconds() as compiling:
      ours = read_program(kind, config, str(base), train)
      ours.warm_up()
    results: dict[str, dict[str, Any]] = {}
    for setting in against:
      with trl.program(kind, base, train, batch, calls, setting) as theirs:
        programs = {"vpo_jax": ours, "trl": theirs}
        try:
          result = interleave.run(programs, steps, "examples")
        except errors.UserError as error:  # usually out of memory; others may fit
          console.say(f"{setting.name}: {error}")
          results[setting.name] = {"error": str(error)}
          continue
        result |= theirs.memory
        cpu = statistics.median(theirs.cpu_seconds[i] for i in interleave.timed(steps))
        result["cpu_seconds_per_example"] = cpu / batch
        results[setting.name] = result
    if not against:
      interleave.run({"vpo_jax": ours}, steps, "examples")
    # Read the peak first: measuring the matrix rate allocates more.
    peak, rates = machine.peak_rss_bytes(), ours.rates(interleave.timed(steps))
    rate, cpu_rate = (
      matmul_rate.matmul_flops_per_second(
        ours.model.policy.config, ours.plan.shapes[0], precision, clock=clock
      )
      for clock in (time.perf_counter, time.process_time)
    )
  return {
    "stage": kind,
    "model": model,
    "batch": batch,
    "steps": steps,
    "precision": precision,
    "micro_tokens": micro_tokens,
    "remat": remat,
    "shapes": len(set(ours.plan.shapes)),
    **rates,
    "matmul_flops_per_second": rate,
    "fraction_of_matmul": rates["model_flops_per_second"] / rate,
    "fraction_of_matmul_by_cpu": rates["model_flops_per_cpu_second"] / cpu_rate,
    "peak_rss_bytes": peak,
    **_device_memory(),
    "compile_seconds": sum(compiling),
    "padding": ours.plan.padding,
    **({"trl": results, "times_trl": _least_ratio(results)} if against else {}),
  }


def bench_groups(
  model: str,
  queries: Sequence[str],
  *,
  batch: int,
  candidates: int,
  steps: int,
  precision: str,
  micro_tokens: int = 4096,
  remat: str = "cheap",
  shapes: int = 1,
) -> dict[str, Any]:
  """What a candidate costs in training on groups (Plackett-Luce), beside DPO.

  Both programs have the same queries and run in turns, each with its reference pass. A
  pair of DPO is the first two candidates of the query's group.

  Args:
    batch: queries per step.
    candidates: responses of each query in a group.

  Returns: the candidates per second of both, and the median ratio of groups to DPO.
  """
  changes = {
    "precision": precision,
    "micro_tokens": micro_tokens,
    "remat": remat,
    "shapes": shapes,
  }
  made = rows.groups(queries, batch * interleave.calls(steps), candidates)
  with tempfile.TemporaryDirectory() as folder:
    base = known_shapes.resolve(model, epath.Path(folder) / "model")
    programs: dict[str, interleave.Program] = {}
    padding = {}
    sizes: dict[Trained, int] = {"groups": candidates, "dpo": 2}
    for kind, responses in sizes.items():
      config = make_config(kind, batch, **changes)
      opened = setup.open_model(config, epath.Path(base))
      examples = [
        data_examples.tokens(
          str(number),
          forms.Row(
            ({"role": "user", "content": content},), tuple(answers[:responses])
          ),
          opened.format,
        )
        for number, (content, answers) in enumerate(made)
      ]
      program = Program(kind, config, opened, examples)
      program.warm_up()
      padding[kind] = program.plan.padding
      programs[kind] = lambda step, run=program, each=responses: each * run(step)
    result = interleave.run(programs, steps, "candidates")
  return {
    "stage": "groups",
    "model": model,
    "batch": batch,
    "candidates": candidates,
    "steps": steps,
    **changes,
    **result,
    "padding": padding,
  }


def _least_ratio(results: dict[str, dict[str, Any]]) -> float | None:
  """The ratio of our rate to TRL's fastest setting."""
  ratios = (r["times_trl"] for r in results.values() if "error" not in r)
  return min(ratios, default=None)


def _device_memory() -> dict[str, int]:
  stats = jax.devices()[0].memory_stats() or {}
  peak = stats.get("peak_bytes_in_use")
  return {} if peak is None else {"peak_device_bytes": peak}


@contextlib.contextmanager
def _compile_seconds() -> Iterator[list[float]]:
  """Collects the seconds of each compilation inside the block."""
  seconds: list[float] = []

  def listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
      seconds.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield seconds
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


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
    tx = optimizer.make(config.optimizer, len(self._batches))
    self._jitted: Any = train_step.make_step(policy, self._objective, tx, placement)
    self._step_fn = train_step.compiled(self._jitted)
    self._state = train_step.init(self.model.load(), tx, placement)
    self._feed = loop.Feed(self._split, self.plan, placement)
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
      # Any weights serve as the reference: the time does not depend on them.
      reference.fill(
        self._values,
        split.examples,
        self.plan,
        index,
        self._state.params,
        model.policy,
        model.placement,
      )
    self._state, values = self._step_fn(self._state, None, *self._feed(index))
    loss = float(values["loss"])
    assert np.isfinite(loss), f"loss {loss}"
    self.losses.append(loss)

  def compiled(self) -> tuple[str, int]:
    """The HLO text of the first step, and its number of micro-batches."""
    lowered = self._jitted.lower(self._state, None, *self._feed(0))
    return lowered.compile().as_text(), len(self.plan.steps[0])

  def state_bytes(self) -> int:
    """Bytes of weights and optimizer state on the first device."""
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
      done = computation.of_step(
        self._split.examples, shape.stem, micros, self.model.policy.config
      )
      row = done.rates(seconds)
      if self._values is not None:  # one more forward pass
        row["model_flops_per_second"] *= 4 / 3
      examples = len(self._batches[index])
      row["cpu_seconds_per_example"] = cpu / examples
      row["model_flops_per_cpu_second"] = row["model_flops_per_second"] * seconds / cpu
      rates.append({"examples_per_second": examples / seconds, **row})
    return {name: statistics.median(row[name] for row in rates) for name in rates[0]}
