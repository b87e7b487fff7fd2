"""Log-probabilities of given tokens, with one block of logits in memory at a time.

Shape letters: G groups, P predicted positions, D model, V vocabulary, C blocks of the
vocabulary, W words of a block.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vpo_jax.decoder import matmul
from vpo_jax.decoder.soft_cap import slope, soft_cap

# Most logits in memory at a time. On a CPU, 2**22 (16 MB) fit its cache.
MAX_LOGITS_ON_CPU, MAX_LOGITS = 2**22, 2**26


def blocks(positions: int, vocab: int, devices: int = 1) -> int:
  """Number of blocks to split the vocabulary into, preferably blocks of equal size.

  If the number does not divide the vocabulary, `logps` pads the head (a copy).

  Args:
    positions: predicted positions of one group.
    vocab: size of the vocabulary.
    devices: number of devices over which groups and vocabulary are split.
  """
  on_cpu = jax.default_backend() == "cpu" and devices == 1
  most = MAX_LOGITS_ON_CPU if on_cpu else MAX_LOGITS
  least = -(-positions * vocab // most)
  return next((n for n in range(least, 2 * least) if vocab % n == 0), least)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def logps(
  x_GPD: Float[Array, "G P D"],
  head_VD: Float[Array, "V D"],
  targets_GP: Int[Array, "G P"],
  blocks: int,
  dtype: str,
  cap: float | None = None,
) -> Float[Array, "G P"]:
  """log_softmax(x @ head.T)[target] in nats, one block of the vocabulary at a time.

  The forward pass saves the normaliser of each position, and the backward pass
  recomputes the logits. Blocks are taken of the vocabulary rather than of positions, so
  that the gradient of each word is written once.

  Args:
    x_GPD: hidden states at the predicted positions.
    head_VD: the output head.
    targets_GP: the tokens to score.
    blocks: number C of blocks. Word v is in block v % C: if the vocabulary is split
      over devices (`sharding.RULES`), each device has a part of every block.
    dtype: operand type of the matrix products; logits and softmax are float32.
    cap: bound of the logits; see `soft_cap`.
  """
  return _forward(x_GPD, head_VD, targets_GP, blocks, dtype, cap)[0]


def _forward(x_GPD, head_VD, targets_GP, blocks, dtype, cap):
  logits = _blocks_of_logits(x_GPD, head_VD, blocks, dtype, cap)

  def one(index, carry):
    max_GP, sum_GP, target_logit_GP = carry
    _, logits_GPW = logits(index)
    new_max_GP = jnp.maximum(max_GP, jnp.max(logits_GPW, axis=-1))
    parts_GPW = jnp.exp(logits_GPW - new_max_GP[..., None])
    sum_GP = sum_GP * jnp.exp(max_GP - new_max_GP) + jnp.sum(parts_GPW, axis=-1)
    index_GP1 = (targets_GP // blocks)[..., None]
    logit_GP = jnp.take_along_axis(logits_GPW, index_GP1, axis=-1)[..., 0]
    in_block_GP = targets_GP % blocks == index
    return new_max_GP, sum_GP, jnp.where(in_block_GP, logit_GP, target_logit_GP)

  zero_GP = jnp.zeros(targets_GP.shape, jnp.float32)
  carry = jnp.full_like(zero_GP, -jnp.inf), zero_GP, zero_GP
  max_GP, sum_GP, target_logit_GP = jax.lax.fori_loop(0, blocks, one, carry)
  normaliser_GP = max_GP + jnp.log(sum_GP)
  return target_logit_GP - normaliser_GP, (x_GPD, head_VD, targets_GP, normaliser_GP)


def _backward(blocks, dtype, cap, saved, dlogps_GP):
  x_GPD, head_VD, targets_GP, normaliser_GP = saved
  logits = _blocks_of_logits(x_GPD, head_VD, blocks, dtype, cap)

  def one(index, carry):
    dx_GPD, dhead_WCD = carry
    head_WD, logits_GPW = logits(index)
    p_GPW = jnp.exp(logits_GPW - normaliser_GP[..., None])
    words_W = jnp.arange(len(head_WD)) * blocks + index
    is_target_GPW = (targets_GP[..., None] == words_W[None, None]).astype(jnp.float32)
    dlogits_GPW = dlogps_GP[..., None] * (is_target_GPW - p_GPW)
    if cap is not None:
      dlogits_GPW = dlogits_GPW * slope(logits_GPW, cap)
    dlogits_GPW = dlogits_GPW.astype(dtype)
    dx_GPD += matmul.einsum("gpw,wd->gpd", dlogits_GPW, head_WD)
    dhead_WD = matmul.einsum("gpw,gpd->wd", dlogits_GPW, x_GPD.astype(dtype))
    return dx_GPD, jax.lax.dynamic_update_index_in_dim(dhead_WCD, dhead_WD, index, 1)

  words, D = -(-len(head_VD) // blocks), head_VD.shape[1]
  carry: Any = (
    jnp.zeros_like(x_GPD, jnp.float32),
    jnp.zeros((words, blocks, D), jnp.float32),
  )
  dx_GPD, dhead_WCD = jax.lax.fori_loop(0, blocks, one, carry)
  return dx_GPD, dhead_WCD.reshape(-1, D)[: len(head_VD)], None


logps.defvjp(_forward, _backward)


def _blocks_of_logits(x_GPD, head_VD, blocks, dtype, cap):
  """A function from a block's index to its part of the head and its logits."""
  V, D = head_VD.shape
  padding = -V % blocks
  head_WCD = jnp.pad(head_VD, ((0, padding), (0, 0))).reshape(-1, blocks, D)
  x_GPD = x_GPD.astype(dtype)

  def one(index):
    head_WD = jax.lax.dynamic_index_in_dim(head_WCD, index, 1, keepdims=False)
    head_WD = head_WD.astype(dtype)
    logits_GPW = soft_cap(matmul.einsum("gpd,wd->gpw", x_GPD, head_WD), cap)
    if padding:
      words_W = jnp.arange(len(head_WD)) * blocks + index
      logits_GPW = jnp.where((words_W < V)[None, None], logits_GPW, -1e30)
    return head_WD, logits_GPW

  return one
