"""What the machine can do, and what a process has taken of it."""

import pathlib
import resource
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vpo_jax.data import forest
from vpo_jax.llama import config as llama_config
from vpo_jax.llama import product, table


def matmul_flops_per_second(
  config: llama_config.LlamaConfig,
  shape: forest.Shape,
  precision: str,
  repeats: int = 5,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """Multiply-adds x 2 a second of the model's own products, forward and backward.

  Each of the model's matrices takes part as often as a micro-batch uses it, so this is
  the rate of a step that does nothing but its products.

  Args:
    shape: of the micro-batch; a product takes the rows of one of its groups.
    repeats: timed runs of each product; the median counts.
    clock: `time.process_time` gives the rate of a CPU second, which others on the
      machine disturb less.
  """
  tokens = shape.stem + shape.rows * shape.row
  layer = jax.tree.leaves(table.table(config)["layers"])
  matrices = [weight.shape[1:] for weight in layer if len(weight.shape) == 3]
  # Rows of x, [in, out], and how many such products there are.
  products = [
    (tokens, size, config.layers * matrices.count(size)) for size in {*matrices}
  ]
  head = (config.d_model, config.vocab)
  products.append((shape.chunk, head, shape.predict // shape.chunk))
  seconds = flops = 0.0
  for rows, size, count in products:
    seconds += count * _seconds(rows, size, precision, repeats, clock)
    flops += count * 6 * rows * size[0] * size[1]
  return flops / seconds


def _seconds(
  rows: int, size: tuple[int, ...], precision: str, repeats: int, clock: Callable
) -> float:
  dtype = jnp.dtype(precision)

  @jax.jit
  def products(x, w, dy):
    return product.columns(x, w, dtype), product.gradients(dtype, (x, w), dy)

  keys = jax.random.split(jax.random.key(0), 3)
  sizes = (rows, size[0]), size, (rows, size[1])
  x, w, dy = (jax.random.normal(k, s) for k, s in zip(keys, sizes, strict=True))
  times = []
  for _ in range(repeats + 1):
    began = clock()
    jax.block_until_ready(products(x.astype(dtype), w.astype(dtype), dy.astype(dtype)))
    times.append(clock() - began)
  return statistics.median(times[1:])


def peak_rss_bytes() -> int:
  """The most memory this process has held.

  Linux keeps it per address space; `ru_maxrss` is inherited from the process that
  started this one, so it is only what other systems have.
  """
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if "VmHWM" in lines:
      return int(lines["VmHWM"].split()[0]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
