"""A step's time on the CPU at hand, from rates that are measured when it is asked.

A CPU has no data sheet that says how fast its products are at a model's sizes, so they
are run. All else is taken to pass through memory: its bytes by the measured rate of an
elementwise operation over arrays that no cache holds.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from vpo_jax.bench import machine
from vpo_jax.llama import config as llama_config
from vpo_jax.plan import count, models, program

_SIZE = 2**25  # floats; 128 MiB, more than caches hold


def step_seconds(
  stage: str,
  config: ml_collections.ConfigDict,
  model: llama_config.LlamaConfig,
  lengths: models.Lengths,
) -> dict[str, float]:
  """Predicts one step of `config` on one device: `products`, `rest`, `seconds`."""
  made = program.lower(stage, config, model, lengths, jax.devices()[:1])
  assert made.shape, "sampling is measured by launch/bench.py"
  text = made.lowered.compile().as_text()
  flops = machine.matmul_flops_per_second(model, made.shape, config.precision)
  rate = bytes_per_second()
  cost = count.cost(text, made.loops, lambda done, moved: 0.0 if done else moved / rate)
  products = cost.flops / flops
  return {
    "products": products,
    "rest": cost.roofline,
    "seconds": products + cost.roofline,
  }


def bytes_per_second(repeats: int = 5) -> float:
  """Bytes that an elementwise operation reads and writes a second."""
  x = jnp.ones(_SIZE, jnp.float32)

  @jax.jit
  def operation(x: Any) -> Any:
    return x * 1.5 + 0.5

  times = []
  for _ in range(repeats + 1):
    began = time.perf_counter()
    jax.block_until_ready(operation(x))
    times.append(time.perf_counter() - began)
  return 2 * 4 * _SIZE / statistics.median(times[1:])
