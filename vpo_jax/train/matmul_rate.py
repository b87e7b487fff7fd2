"""The rate at which this machine multiplies matrices of the model's sizes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import head, matmul, table


def of_mesh(
  config: decoder_config.DecoderConfig,
  shape: forest.Shape,
  precision: str,
  mesh: jax.sharding.Mesh,
) -> float:
  """`matmul_flops_per_second` of all devices of a mesh, measured on one of them.

  The host devices of one CPU share its cores, so each process counts once there.
  """
  devices = mesh.devices.flat
  cpus = {device.process_index for device in devices if device.platform == "cpu"}
  one = matmul_flops_per_second(config, shape, precision, repeats=2)
  return one * (len(cpus) or mesh.size)


def matmul_flops_per_second(
  config: decoder_config.DecoderConfig,
  shape: forest.Shape,
  precision: str,
  repeats: int = 5,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """FLOP per second of the model's matrix products, forward and backward.

  Each matrix counts as often as a micro-batch uses it, so this is the rate of a
  training step that computes nothing but its matrix products.

  Args:
    shape: the micro-batch's; a product has the rows of one group.
    repeats: timed runs of each product, of which the median is used.
    clock: with `time.process_time` the rate is per CPU second, which other processes on
      the machine disturb less.
  """
  seconds = flops = 0.0
  for rows, size, count in products(config, shape):
    seconds += count * _seconds(rows, size, precision, repeats, clock)
    flops += count * 6 * rows * size[0] * size[1]
  return flops / seconds


def products(
  config: decoder_config.DecoderConfig, shape: forest.Shape
) -> list[tuple[int, tuple[int, int], int]]:
  """A micro-batch's matrix products: rows of x, (in, out) of w, and how many."""
  tokens = shape.stem + shape.rows * shape.row
  layer = jax.tree.leaves(table.table(config)["layers"])
  matrices = [weight.shape[1:] for weight in layer if len(weight.shape) == 3]
  found = [(tokens, size, config.layers * matrices.count(size)) for size in {*matrices}]
  blocks = head.blocks(shape.predict, config.vocab)
  return [*found, (shape.predict, (config.d_model, -(-config.vocab // blocks)), blocks)]


def _seconds(
  rows: int, size: tuple[int, ...], precision: str, repeats: int, clock: Callable
) -> float:
  # Random values, because a GPU multiplies constant ones faster.
  values = np.random.default_rng(0).normal(size=2**16).astype(jnp.dtype(precision))
  sizes = (rows, size[0]), size, (rows, size[1])
  operands = [jnp.asarray(np.resize(values, size)) for size in sizes]
  # On an accelerator several calls are queued, to hide the dispatch of each.
  calls = 1 if jax.default_backend() == "cpu" else 10
  times = []
  for _ in range(repeats + 1):
    began = clock()
    done = [_products(*operands) for _ in range(calls)][-1]
    jax.block_until_ready(done)
    times.append((clock() - began) / calls)
  return statistics.median(times[1:])


@jax.jit
def _products(x: jax.Array, w: jax.Array, dy: jax.Array) -> Any:
  return matmul.dense(x, w, x.dtype), matmul.gradients(x.dtype, (x, w), dy)
