"""The metrics of a training step: read late, so that the device never waits."""

import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import packing
from vpo_jax.decoder import config as decoder_config
from vpo_jax.train import computation, log, matmul_rate, optimizer


class Report:
  """Reads the metrics of a step once the next one has been dispatched."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    architecture: decoder_config.DecoderConfig,
    mesh: jax.sharding.Mesh,
    examples: Sequence[data_examples.Example],
    plan: packing.Plan,
    batches: Sequence[Sequence[int]],
  ):
    """Prepares the report of a run; measures the rate of matrix products if asked to.

    Args:
      config: the training config.
      examples: the training examples.
      plan: how `batches` are packed.
      batches: example indices of each step.
    """
    self._architecture, self._examples = architecture, examples
    self._plan, self._batches = plan, batches
    self._schedule = optimizer.schedule(config.optimizer, len(batches))
    self._frozen = config.lora.rank > 0
    self._matmul_rate: float | None = None
    if config.measure_matmul_rate:
      # Measured first, while memory is free: the optimizer's state is allocated later.
      self._matmul_rate = matmul_rate.of_mesh(
        architecture, plan.shapes[0], config.precision, mesh
      )
    self._pending: tuple[int, Any, float] | None = None
    self.note = ""

  def start(self, metrics: log.Log) -> None:
    """Starts the clock of the first step; rows go to `metrics`."""
    self._metrics = metrics
    self.start_clock()

  def start_clock(self) -> None:
    """Restarts the clock, so that evaluations and saves do not count into a step."""
    self._clock = time.perf_counter()

  def dispatched(self, step: int, values: Any, waited: float) -> int:
    """Takes a step's metrics and reads the previous step's; returns how many it read.

    Args:
      waited: seconds that building the step's batch took.
    """
    read = self.flush()
    self._pending = (step, values, waited)
    return read

  def flush(self) -> int:
    """Reads the pending metrics, if any; returns how many steps it read (0 or 1)."""
    if self._pending is None:
      return 0
    (step, values, waited), self._pending = self._pending, None
    row = {name: float(value) for name, value in values.items()}
    batch = [self._examples[index] for index in self._batches[step]]
    if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
      ids = ", ".join(example.id for example in batch)
      raise errors.UserError(
        f"step {step + 1}: loss {row['loss']}, gradient norm {row['grad_norm']};"
        f" stopped before it was saved; the batch's rows: {ids}"
      )
    now = time.perf_counter()
    seconds, self._clock = now - self._clock, now
    row["learning_rate"] = float(jnp.asarray(self._schedule(step)))
    row["examples_per_second"] = len(batch) / seconds
    # Share of the step's time; near 0 where building a batch overlaps with computing.
    row["data_wait"] = waited / seconds
    stem, micros = self._plan.shapes[step].stem, self._plan.steps[step]
    computed = computation.of_step(
      self._examples, stem, micros, self._architecture, self._frozen
    )
    row |= computed.rates(seconds)
    if self._matmul_rate:
      share = row["model_flops_per_second"] / self._matmul_rate
      row["fraction_of_matmul_rate"] = share
    self._metrics.add(step + 1, row)
    self.note = f"loss {row['loss']:.3f}"
    return 1
