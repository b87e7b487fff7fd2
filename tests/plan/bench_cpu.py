"""A step's time on the CPU at hand, from rates that are measured when it is asked.

A CPU has no data sheet that says how fast its products are at a model's sizes, so they
are run. All else is taken to pass through memory, or through a cache where it is small:
its bytes by the measured rate of an elementwise operation. Both are measured inside of
one program, whose buffers are there: a new array costs its pages, up to ten times as
much as writing to it.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul
from vpo_jax.plan import count, models, program
from vpo_jax.train import matmul_rate

_NEAR, _FAR = 2**20, 2**25  # floats; 4 MiB stay in a cache, 128 MiB do not
_CACHED = 2**25  # bytes that an operation moves, up to which they do
_TURNS = 10


def step_seconds(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
) -> dict[str, float]:
  """Predicts one step of `config` on one device: `products`, `rest`, `seconds`."""
  made = program.lower(stage, config, model, lengths, jax.devices()[:1])
  assert made.shape, "sampling is measured by launch/bench.py"
  text = made.lowered.compile().as_text()
  flops = flops_per_second(model, made.shape, config.precision)
  near, far = bytes_per_second(_NEAR), bytes_per_second(_FAR)

  def seconds(done: float, moved: float) -> float:
    return 0.0 if done else moved / (near if moved < _CACHED else far)

  cost = count.cost(text, made.loops, seconds)
  products = cost.flops / flops
  return {
    "products": products,
    "rest": cost.roofline,
    "seconds": products + cost.roofline,
  }


def bytes_per_second(size: int, repeats: int = 5) -> float:
  """Bytes a second that an operation on each of `size` floats reads and writes."""

  seconds = _seconds(lambda x: x * 1.5 + 0.5, jnp.ones(size, jnp.float32), repeats)
  return 2 * 4 * size / seconds


def flops_per_second(
  model: decoder_config.DecoderConfig, shape: forest.Shape, precision: str
) -> float:
  """Multiply-adds x 2 a second of a micro-batch's products, forward and backward."""
  dtype, flops, seconds = jnp.dtype(precision), 0.0, 0.0

  def turn(carry: Any) -> Any:
    x, w, dy = carry  # each becomes what has its size, so that no turn can be left out
    y, backward = jax.vjp(lambda x, w: matmul.product(x, w, dtype), x, w)
    return *backward(dy), y

  for rows, (inner, outer), times in matmul_rate.products(model, shape):
    sizes = (rows, inner), (inner, outer), (rows, outer)
    carry = tuple(jnp.ones(size, jnp.float32) for size in sizes)
    seconds += times * _seconds(turn, carry)
    flops += times * 6 * rows * inner * outer
  return flops / seconds


def _seconds(turn: Callable[[Any], Any], carry: Any, repeats: int = 5) -> float:
  """Of one turn of a loop inside of a program."""

  @functools.partial(jax.jit, donate_argnums=0)
  def run(carry: Any) -> Any:
    return jax.lax.fori_loop(0, _TURNS, lambda _, carry: turn(carry), carry)

  times = []
  for _ in range(repeats + 1):
    began = time.perf_counter()
    carry = jax.block_until_ready(run(carry))
    times.append(time.perf_counter() - began)
  return statistics.median(times[1:]) / _TURNS
