"""Log-probabilities of given tokens, without all logits alive at once."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from vpo_jax.llama import product, sharding


def chunk_size(rows: NamedSharding) -> int:
  """About how many positions' logits live at once.

  Each chunk reads and writes the gradient of the whole head, which on a GPU takes as
  long as the products of some hundred positions; 2,048 of Llama-3's take 1 GB.
  """
  return 2048 if sharding.one_gpu(rows) else 512


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def logps(
  x_GPD: Float[Array, "G P D"],
  head_VD: Float[Array, "V D"],
  targets_GP: Int[Array, "G P"],
  chunk: int,
  dtype: str,
) -> Float[Array, "G P"]:
  """log softmax(x @ head.T)[target] in nats, `chunk` positions of a group at a time.

  Only one chunk of logits lives at a time, forward and backward: the forward pass
  keeps the normaliser of each position, the backward pass makes the logits again.

  Args:
    x_GPD: hidden states of the positions that predict; P a multiple of `chunk`.
    head_VD: the output head.
    targets_GP: the tokens whose log-probability is asked for.
    chunk: positions a chunk.
    dtype: operands of the products; logits and softmax are float32.
  """
  return _forward(x_GPD, head_VD, targets_GP, chunk, dtype)[0]


def _forward(x_GPD, head_VD, targets_GP, chunk, dtype):
  head = head_VD.astype(dtype)

  def one(inputs):
    x_GCD, targets_GC = inputs
    logits_GCV = _logits(x_GCD, head, dtype)
    normaliser_GC = jax.nn.logsumexp(logits_GCV, axis=-1)
    hit_GC1 = jnp.take_along_axis(logits_GCV, targets_GC[..., None], axis=-1)
    return hit_GC1[..., 0] - normaliser_GC, normaliser_GC

  logps, normaliser = jax.lax.map(one, _split(chunk, x_GPD, targets_GP))
  return _join(logps), (x_GPD, head_VD, targets_GP, _join(normaliser))


def _backward(chunk, dtype, saved, dlogps_GP):
  x_GPD, head_VD, targets_GP, normaliser_GP = saved
  head = head_VD.astype(dtype)
  vocabulary = jnp.arange(head.shape[0])[None, None, :]

  def one(dhead_VD, inputs):
    x, targets, normaliser, dlogps = inputs
    p_GCV = jnp.exp(_logits(x, head, dtype) - normaliser[..., None])
    hit_GCV = (targets[..., None] == vocabulary).astype(jnp.float32)
    dlogits = (dlogps[..., None] * (hit_GCV - p_GCV)).astype(dtype)
    dx = product.einsum("gcv,vd->gcd", dlogits, head)
    dhead_VD += product.einsum("gcv,gcd->vd", dlogits, x.astype(dtype))
    return dhead_VD, dx

  parts = _split(chunk, x_GPD, targets_GP, normaliser_GP, dlogps_GP)
  dhead, dx = jax.lax.scan(one, jnp.zeros_like(head_VD, jnp.float32), parts)
  return _join(dx), dhead, None


logps.defvjp(_forward, _backward)


def _logits(x_GCD, head_VD, dtype):
  x = x_GCD.astype(dtype)
  return product.einsum("gcd,vd->gcv", x, head_VD)


def _split(chunk, *arrays):
  """[G, P, ...] to [P / chunk, G, chunk, ...]: a group never leaves its device."""

  def one(a):
    G, P = a.shape[:2]
    return jnp.moveaxis(a.reshape(G, P // chunk, chunk, *a.shape[2:]), 1, 0)

  return tuple(one(a) for a in arrays)


def _join(a):
  return jnp.moveaxis(a, 0, 1).reshape(a.shape[1], -1, *a.shape[3:])
