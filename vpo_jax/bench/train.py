"""Training throughput, and TRL's on the same rows."""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from etils import epath

from vpo_jax import errors
from vpo_jax.bench import interleave, machine, rows, stage_step, trl
from vpo_jax.bench import shapes as known_shapes
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forms
from vpo_jax.runtime import console
from vpo_jax.train import matmul_rate, setup


def bench(
  kind: stage_step.Kind,
  model: str,
  queries: Sequence[str],
  *,
  batch: int,
  steps: int,
  precision: str,
  micro_tokens: int = 4096,
  remat: str = "cheap",
  shapes: int = 1,
  lora_rank: int = 0,
  against: Sequence[trl.Setting] = (),
) -> dict[str, Any]:
  """Times `steps` training steps, each preceded by an untimed one.

  Args:
    queries: one per example.
    lora_rank: of the stage's adapters; 0 trains all weights.
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
    config = stage_step.make_config(
      kind,
      batch,
      precision=precision,
      micro_tokens=micro_tokens,
      remat=remat,
      shapes=shapes,
      lora={"rank": lora_rank},
    )
    with _compile_seconds() as compiling:
      ours = stage_step.read_program(kind, config, str(base), train)
      ours.warm_up()
    peft = ours.lora and ours.lora.peft(ours.model.policy.config)
    results: dict[str, dict[str, Any]] = {}
    for setting in against:
      with trl.program(kind, base, train, batch, calls, setting, peft) as theirs:
        programs = {"vpo_jax": ours, "trl": theirs}
        try:
          result = interleave.run(programs, steps, "examples")
        except errors.UserError as error:  # usually out of memory; others may fit
          console.say(f"{setting.name}: {error}")
          results[setting.name] = {"error": str(error)}
          continue
        result |= theirs.memory
        result["trainable_parameters"] = theirs.trainable_parameters
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
    "lora_rank": lora_rank,
    "trainable_parameters": ours.trainable_parameters,
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
    sizes: dict[stage_step.Trained, int] = {"groups": candidates, "dpo": 2}
    for kind, responses in sizes.items():
      config = stage_step.make_config(kind, batch, **changes)
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
      program = stage_step.Program(kind, config, opened, examples)
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
