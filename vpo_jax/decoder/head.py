"""Log-probabilities of given tokens, without all logits alive at once.

Shape letters: G groups, P positions, D model, V vocabulary, N blocks of it, W words of
a block.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import matmul

# Logits that live at once; on a CPU (16 MB) they stay in its cache.
ON_CPU, ELSEWHERE = 2**22, 2**26


def blocks(positions: int, vocab: int, devices: int = 1) -> int:
  """How many blocks the vocabulary is taken in, if possible equal ones.

  Where it must be filled up to be cut, the head is copied.

  Args:
    positions: of one group.
    devices: that groups and the vocabulary are spread over.
  """
  on_cpu = jax.default_backend() == "cpu" and devices == 1
  most = ON_CPU if on_cpu else ELSEWHERE
  least = -(-positions * vocab // most)
  return next((n for n in range(least, 2 * least) if vocab % n == 0), least)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def logps(
  x_GPD: Float[Array, "G P D"],
  head_VD: Float[Array, "V D"],
  targets_GP: Int[Array, "G P"],
  blocks: int,
  dtype: str,
) -> Float[Array, "G P"]:
  """log softmax(x @ head.T)[target] in nats, a block of the vocabulary at a time.

  Only one block of logits lives at a time, forward and backward: the forward pass keeps
  the normaliser of each position, the backward pass makes the logits again. Blocks of
  the vocabulary, not of positions: each word's gradient is then written once.

  Args:
    x_GPD: hidden states of the positions that predict.
    head_VD: the output head.
    targets_GP: the tokens whose log-probability is asked for.
    blocks: N. Word v is in block v % N, so that where devices hold a part of the
      vocabulary each (`sharding.RULES`), all have a part of every block.
    dtype: operands of the products; logits and softmax are float32.
  """
  return _forward(x_GPD, head_VD, targets_GP, blocks, dtype)[0]


def _forward(x_GPD, head_VD, targets_GP, blocks, dtype):
  logits = _blocks_of_logits(x_GPD, head_VD, blocks, dtype)

  def one(index, carry):
    top_GP, sum_GP, hit_GP = carry
    _, logits_GPW = logits(index)
    new_top_GP = jnp.maximum(top_GP, jnp.max(logits_GPW, axis=-1))
    parts_GPW = jnp.exp(logits_GPW - new_top_GP[..., None])
    sum_GP = sum_GP * jnp.exp(top_GP - new_top_GP) + jnp.sum(parts_GPW, axis=-1)
    place_GP1 = (targets_GP // blocks)[..., None]
    found_GP = jnp.take_along_axis(logits_GPW, place_GP1, axis=-1)[..., 0]
    return new_top_GP, sum_GP, jnp.where(targets_GP % blocks == index, found_GP, hit_GP)

  zero_GP = jnp.zeros(targets_GP.shape, jnp.float32)
  carry = jnp.full_like(zero_GP, -jnp.inf), zero_GP, zero_GP
  top_GP, sum_GP, hit_GP = jax.lax.fori_loop(0, blocks, one, carry)
  normaliser_GP = top_GP + jnp.log(sum_GP)
  return hit_GP - normaliser_GP, (x_GPD, head_VD, targets_GP, normaliser_GP)


def _backward(blocks, dtype, saved, dlogps_GP):
  x_GPD, head_VD, targets_GP, normaliser_GP = saved
  logits = _blocks_of_logits(x_GPD, head_VD, blocks, dtype)

  def one(index, carry):
    dx_GPD, dhead_WND = carry
    head_WD, logits_GPW = logits(index)
    p_GPW = jnp.exp(logits_GPW - normaliser_GP[..., None])
    words_W = jnp.arange(len(head_WD)) * blocks + index
    hit_GPW = (targets_GP[..., None] == words_W[None, None]).astype(jnp.float32)
    dlogits_GPW = (dlogps_GP[..., None] * (hit_GPW - p_GPW)).astype(dtype)
    dx_GPD += matmul.einsum("gpw,wd->gpd", dlogits_GPW, head_WD)
    dhead_WD = matmul.einsum("gpw,gpd->wd", dlogits_GPW, x_GPD.astype(dtype))
    return dx_GPD, jax.lax.dynamic_update_index_in_dim(dhead_WND, dhead_WD, index, 1)

  words, D = -(-len(head_VD) // blocks), head_VD.shape[1]
  carry: Any = (
    jnp.zeros_like(x_GPD, jnp.float32),
    jnp.zeros((words, blocks, D), jnp.float32),
  )
  dx_GPD, dhead_WND = jax.lax.fori_loop(0, blocks, one, carry)
  return dx_GPD, dhead_WND.reshape(-1, D)[: len(head_VD)], None


logps.defvjp(_forward, _backward)


def _blocks_of_logits(x_GPD, head_VD, blocks, dtype):
  """index -> the block's part of the head in `dtype`, and its logits."""
  V, D = head_VD.shape
  missing = -V % blocks
  head_WND = jnp.pad(head_VD, ((0, missing), (0, 0))).reshape(-1, blocks, D)
  x_GPD = x_GPD.astype(dtype)

  def one(index):
    head_WD = jax.lax.dynamic_index_in_dim(head_WND, index, 1, keepdims=False)
    head_WD = head_WD.astype(dtype)
    logits_GPW = matmul.einsum("gpd,wd->gpw", x_GPD, head_WD)
    if missing:  # words that are none
      words_W = jnp.arange(len(head_WD)) * blocks + index
      logits_GPW = jnp.where((words_W < V)[None, None], logits_GPW, -1e30)
    return head_WD, logits_GPW

  return one
