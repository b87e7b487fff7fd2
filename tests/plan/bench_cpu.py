r"""Predicts the time of an SFT step of SmolLM2 on this CPU, and measures it.

    python tests/plan/bench_cpu.py --precision=float32

Needs a quiet machine. The last line is JSON, in seconds.

A CPU has no data sheet for matrix products of a model's sizes, so they are timed. Every
other operation is assumed to be bound by memory, or by a cache if its arrays are small;
those two rates are measured with an elementwise operation. All are measured inside one
program with preallocated buffers: writing to a new array costs page faults, up to ten
times as much as the write itself.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import ml_collections

from configs import sft
from tests.plan import steps
from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import matmul
from vpo_jax.plan import hlo_cost, models, program
from vpo_jax.train import matmul_rate

CACHED_FLOATS, UNCACHED_FLOATS = 2**20, 2**25  # 4 MiB and 128 MiB
CACHED_BYTES = 2**25  # an operation that moves less stays in a cache
ITERATIONS = 10


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--precision", default="float32")
  parser.add_argument("--steps", type=int, default=5, help="the first is not timed")
  args = parser.parse_args()
  config = sft.get_config()
  config.update(
    batch_size=8, precision=args.precision, micro_tokens=1024, remat="cheap"
  )
  config.mesh.fsdp = 1
  model = models.read("smollm2-135m")
  predicted = predict("sft", config, model, models.Lengths())
  run, state, feed = steps.training_step(config, model, models.Lengths())
  times = []
  for step in range(args.steps):
    batch = feed(step)
    start = time.perf_counter()
    state, metrics = run(state, None, *batch)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - start)
  measured = statistics.median(times[1:])
  print(json.dumps({"predicted": predicted, "measured": measured}))


def predict(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
) -> dict[str, float]:
  """Predicts one training step on one device: `products`, `rest`, `seconds`."""
  lowered = program.lower(stage, config, model, lengths, jax.devices()[:1])
  text = lowered.lowered.compile().as_text()
  flops = flops_per_second(model, lowered.shape, config.precision)
  cached, uncached = map(bytes_per_second, (CACHED_FLOATS, UNCACHED_FLOATS))

  def seconds(done: float, moved: float) -> float:
    return 0.0 if done else moved / (cached if moved < CACHED_BYTES else uncached)

  cost = hlo_cost.analyze(text, lowered.trips, seconds)
  products = cost.flops / flops
  return {
    "products": products,
    "rest": cost.roofline,
    "seconds": products + cost.roofline,
  }


def bytes_per_second(size: int) -> float:
  """Bytes/s that an elementwise operation on `size` floats reads and writes."""
  seconds = _seconds(lambda x: x * 1.5 + 0.5, jnp.ones(size, jnp.float32))
  return 2 * 4 * size / seconds


def flops_per_second(
  model: decoder_config.DecoderConfig, shape: forest.Shape, precision: str
) -> float:
  """FLOP/s of a micro-batch's matrix products, forward and backward."""
  dtype, flops, seconds = jnp.dtype(precision), 0.0, 0.0

  def body(carry: Any) -> Any:
    # Each output replaces the input of its shape, so XLA cannot drop an iteration.
    x, w, dy = carry
    y, backward = jax.vjp(lambda x, w: matmul.product(x, w, dtype), x, w)
    return *backward(dy), y

  for rows, (inner, outer), times in matmul_rate.products(model, shape):
    sizes = (rows, inner), (inner, outer), (rows, outer)
    carry = tuple(jnp.ones(size, jnp.float32) for size in sizes)
    seconds += times * _seconds(body, carry)
    flops += times * 6 * rows * inner * outer
  return flops / seconds


def _seconds(body: Callable[[Any], Any], carry: Any, repeats: int = 5) -> float:
  """Median time of one iteration of a loop inside a program."""

  @functools.partial(jax.jit, donate_argnums=0)
  def run(carry: Any) -> Any:
    return jax.lax.fori_loop(0, ITERATIONS, lambda _, carry: body(carry), carry)

  times = []
  for _ in range(repeats + 1):
    start = time.perf_counter()
    carry = jax.block_until_ready(run(carry))
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:]) / ITERATIONS


if __name__ == "__main__":
  main()
