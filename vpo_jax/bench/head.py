"""Memory that blockwise logits save: compiles a DPO step with and without blocks."""

import functools
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from configs import training
from vpo_jax.data import forest
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import head, sharding, table
from vpo_jax.decoder.soft_cap import soft_cap
from vpo_jax.train import optimizer, pair_objective
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step

TREES = 6  # pairs per row


def measure(
  model: decoder_config.DecoderConfig,
  rows: Sequence[int],
  row: int,
  precision: str,
  remat: str,
) -> list[dict[str, Any]]:
  """XLA's size of a step's temporaries, by rows of the micro-batch.

  Args:
    rows: numbers of rows, each compiled separately.
    row: tokens per row; all of them predict.

  Returns: bytes for each of `rows`: the step with logits in blocks (`blocks`); the
    step with all logits at once and JAX's own derivative (`plain`); and the head's
    forward and backward pass alone (`blocks_head`, `plain_head`).
  """
  sizes = []
  for count in rows:
    of_step = functools.partial(_step_bytes, model, count, row, precision, remat)
    of_head = functools.partial(_head_bytes, model, count * row, precision)
    sizes.append({"rows": count, "blocks": of_step(), "blocks_head": of_head()})
    with mock.patch.object(head, "logps", plain):
      sizes[-1] |= {"plain": of_step(), "plain_head": of_head()}
  return sizes


def plain(
  x_GPD: Float[Array, "G P D"],
  head_VD: Float[Array, "V D"],
  targets_GP: Int[Array, "G P"],
  blocks: int,
  dtype: str,
  cap: float | None = None,
) -> Float[Array, "G P"]:
  """`head.logps` with all logits at once; `blocks` is ignored."""
  del blocks
  x, w = x_GPD.astype(dtype), head_VD.astype(dtype)
  logits_GPV = jnp.einsum("gpd,vd->gpv", x, w, preferred_element_type="float32")
  logps_GPV = jax.nn.log_softmax(soft_cap(logits_GPV, cap))
  return jnp.take_along_axis(logps_GPV, targets_GP[..., None], axis=-1)[..., 0]


def _step_bytes(model, rows, row, precision, remat) -> int:
  shape = forest.Shape(
    groups=1,
    stem=0,
    rows=rows,
    row=row,
    trees=TREES * rows,
    branches=2,
    predict=rows * row,
  )
  config = training.get_config()
  placement = sharding.place(model, sharding.one_device_mesh())
  policy = policies.Policy(model, precision, remat)
  tx = optimizer.make(config.optimizer, 1000)
  params = jax.tree.map(lambda w: _floats(*w.shape), table.table(model))
  step = jax.ShapeDtypeStruct((), jnp.int32)
  state = train_step.State(step, params, jax.eval_shape(tx.init, params))  # pyright: ignore[reportArgumentType]
  empty = forest.build([], shape, [[[]] * rows])
  micros = jax.tree.map(lambda leaf: leaf[None], empty)
  run: Any = train_step.make_step(policy, pair_objective.dpo(0.1), tx, placement)
  return _temporaries(run.lower(state, None, micros, np.int32(1), shape))


def _head_bytes(model, positions, precision) -> int:
  blocks = head.blocks(positions, model.vocab)

  def total(x_GPD, head_VD, targets_GP):
    return jnp.sum(head.logps(x_GPD, head_VD, targets_GP, blocks, precision))

  x, w = _floats(1, positions, model.d_model), _floats(model.vocab, model.d_model)
  targets = jax.ShapeDtypeStruct((1, positions), jnp.int32)
  return _temporaries(jax.jit(jax.grad(total, (0, 1))).lower(x, w, targets))


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _temporaries(lowered: Any) -> int:
  return lowered.compile().memory_analysis().temp_size_in_bytes
