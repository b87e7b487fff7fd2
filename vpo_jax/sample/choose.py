"""Draws tokens by temperature, top-k and top-p, without sorting the vocabulary.

As in transformers, temperature comes first, then top-k, then top-p on the remaining
tokens. The draw is an exponential race: token v gets a random time of rate p[v], and
the token with the smallest time is a sample from p. A token is in the nucleus if the
total probability of more probable tokens is below top_p, which takes one sum to check;
if the winner is not in the nucleus, the race is repeated among more probable tokens.
The result follows the truncated distribution exactly and takes a few passes over the
vocabulary; a sort would take longer than the model. Rounding of the logits changes a
draw only if two times nearly tie, which is far rarer than a changed cumulative sum.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

BLOCK = 256  # words in a block of `argmin`


def choose(
  logits_BV: Float[Array, "B V"],
  key_B2: UInt32[Array, "B 2"],
  step_B: Int[Array, " B"],
  temperature_B: Float[Array, " B"],
  top_p_B: Float[Array, " B"],
  top_k_B: Int[Array, " B"],
  *,
  split: bool = False,
) -> Int[Array, " B"]:
  """Draws one token per row, as a function of that row's inputs alone.

  Args:
    logits_BV: float32 logits.
    key_B2: random key of the row.
    step_B: index of the draw in the row.
    temperature_B: 0 for the most probable token.
    top_p_B: 1 for all tokens.
    top_k_B: 0 for all tokens.
    split: the vocabulary is split over devices.
  """
  greedy_B = temperature_B == 0
  # Blocks of a split axis would be gathered on every device.
  find = functools.partial(jnp.argmin, axis=-1) if split else argmin

  def most_probable():
    return find(-logits_BV)

  def draw():
    p_BV = probabilities(logits_BV, temperature_B, top_k_B)
    time_BV = exponentials(key_B2, step_B, p_BV.shape[1]) / p_BV
    return _first_in_nucleus(p_BV, time_BV, top_p_B, greedy_B, find)

  def either():
    return jnp.where(greedy_B, most_probable(), draw())

  # 0, 1 or 2: no row is greedy, some are, all are.
  some, every = jnp.any(greedy_B), jnp.all(greedy_B)
  branch = some.astype(jnp.int32) + every.astype(jnp.int32)
  return jax.lax.switch(branch, (draw, either, most_probable))


def probabilities(
  logits_BV: Float[Array, "B V"],
  temperature_B: Float[Array, " B"],
  top_k_B: Int[Array, " B"],
) -> Float[Array, "B V"]:
  """exp(logits / temperature), unnormalised, with 0 outside the top k."""
  temperature_B = jnp.where(temperature_B == 0, 1.0, temperature_B)
  z_BV = logits_BV / temperature_B[:, None]
  p_BV = jnp.exp(z_BV - jnp.max(z_BV, axis=-1, keepdims=True))

  def cut(p_BV):
    kth_B = kth_largest(p_BV, jnp.where(top_k_B == 0, p_BV.shape[1], top_k_B))
    return jnp.where(p_BV < kth_B[:, None], 0.0, p_BV)

  return jax.lax.cond(jnp.any(top_k_B > 0), cut, lambda p: p, p_BV)


def kth_largest(p_BV: Float[Array, "B V"], k_B: Int[Array, " B"]) -> Float[Array, " B"]:
  """The k-th largest number of each row, by bisection over bits; p must be >= 0."""
  bits_BV = jax.lax.bitcast_convert_type(p_BV, jnp.int32)  # in the order of p >= 0

  def halve(_, bounds):
    low_B, high_B = bounds  # at least k are >= low, fewer than k are >= high
    middle_B = low_B + (high_B - low_B) // 2
    enough_B = jnp.sum(bits_BV >= middle_B[:, None], axis=-1) >= k_B
    return jnp.where(enough_B, middle_B, low_B), jnp.where(enough_B, high_B, middle_B)

  low_B = jnp.zeros_like(k_B)
  high_B = jnp.full_like(k_B, jnp.iinfo(jnp.int32).max)
  low_B, _ = jax.lax.fori_loop(0, 31, halve, (low_B, high_B))
  return jax.lax.bitcast_convert_type(low_B, jnp.float32)


def _first_in_nucleus(p_BV, time_BV, top_p_B, done_B, find):
  """The token in the nucleus with the smallest time."""
  allowed_B = jnp.where(top_p_B < 1, top_p_B * jnp.sum(p_BV, axis=-1), jnp.inf)

  def attempt(state):
    floor_B, token_B, done_B = state
    first_B = find(jnp.where(p_BV > floor_B[:, None], time_BV, jnp.inf))
    p_B = jnp.take_along_axis(p_BV, first_B[:, None], axis=-1)[:, 0]
    above_B = jnp.sum(jnp.where(p_BV > p_B[:, None], p_BV, 0.0), axis=-1)
    token_B = jnp.where(done_B, token_B, first_B)
    # If it is outside the nucleus, so are all tokens that are not more probable.
    return p_B, token_B, done_B | (above_B < allowed_B)

  zero_B = jnp.zeros_like(allowed_B)
  state = (zero_B, zero_B.astype(jnp.int32), done_B)
  return jax.lax.while_loop(lambda state: ~jnp.all(state[2]), attempt, state)[1]


def argmin(x_BV: Float[Array, "B V"]) -> Int[Array, " B"]:
  """Index of the first smallest number in each row.

  On a CPU `jnp.argmin` is not vectorized: it takes 7 ms for 32 rows of 49,152. This
  finds the block with the smallest number, then its index in that block.
  """
  x_BV = jnp.pad(x_BV, ((0, 0), (0, -x_BV.shape[1] % BLOCK)), constant_values=jnp.inf)
  x_BNC = x_BV.reshape(x_BV.shape[0], -1, BLOCK)
  block_B = jnp.argmin(jnp.min(x_BNC, axis=-1), axis=-1)
  x_BC = jnp.take_along_axis(x_BNC, block_B[:, None, None], axis=1)[:, 0]
  return block_B * BLOCK + jnp.argmin(x_BC, axis=-1)


def exponentials(
  key_B2: UInt32[Array, "B 2"], step_B: Int[Array, " B"], count: int
) -> Float[Array, "B count"]:
  """Independent draws from the unit exponential distribution, `count` for each row.

  Threefry derives the key of a row's draw. A 32-bit multiplicative hash (lowbias32)
  extends it over the vocabulary at a fifth of Threefry's cost.
  """
  keys_B = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(key_B2), step_B)
  key_B2 = jax.random.key_data(keys_B)
  index_1V = jnp.arange(count, dtype=jnp.uint32)[None]
  bits_BV = _mix(_mix(index_1V ^ key_B2[:, :1]) + key_B2[:, 1:])
  return -jnp.log1p(-(bits_BV.astype(jnp.float32) + 0.5) * 2.0**-32)


def _mix(bits):
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
  return bits ^ (bits >> 16)
