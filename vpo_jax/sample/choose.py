"""From logits to a token: temperature, top-k, top-p, without sorting the vocabulary.

The order is transformers': temperature, then top-k, then top-p on what is left. Tokens
race: each has an exponential time of rate p, and the first is a draw from p. A token is
in the nucleus when the tokens more probable than it hold less than top_p, which is one
sum; where the first is not in it, the next one in the race is looked at. So what is
drawn follows the truncated distribution exactly, for a few passes over the vocabulary
where a sort costs more than the model. And rounding in the logits changes a draw only
where two tokens arrive together, far more seldom than where it moves a running sum.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

BLOCK = 256  # neighbours in the vocabulary, of which first the smallest is found


def choose(
  logits_BV: Float[Array, "B V"],
  key_B2: UInt32[Array, "B 2"],
  step_B: Int[Array, " B"],
  temperature_B: Float[Array, " B"],
  top_p_B: Float[Array, " B"],
  top_k_B: Int[Array, " B"],
) -> Int[Array, " B"]:
  """Draws one token a row; each row is a function of its own inputs only.

  Args:
    logits_BV: float32.
    key_B2: the row's own random key.
    step_B: which of the row's draws this is.
    temperature_B: 0 takes the most probable token.
    top_p_B: 1 keeps all tokens.
    top_k_B: 0 keeps all tokens.
  """
  greedy_B = temperature_B == 0

  def most_probable():
    return smallest(-logits_BV)

  def draw():
    p_BV = probabilities(logits_BV, temperature_B, top_k_B)
    race_BV = exponentials(key_B2, step_B, p_BV.shape[1]) / p_BV
    return _nucleus(p_BV, race_BV, top_p_B, greedy_B)

  def either():
    return jnp.where(greedy_B, most_probable(), draw())

  # Which of the three, by how many rows are greedy: none, some, all.
  some, every = jnp.any(greedy_B), jnp.all(greedy_B)
  which = some.astype(jnp.int32) + every.astype(jnp.int32)
  return jax.lax.switch(which, (draw, either, most_probable))


def probabilities(
  logits_BV: Float[Array, "B V"],
  temperature_B: Float[Array, " B"],
  top_k_B: Int[Array, " B"],
) -> Float[Array, "B V"]:
  """exp(logits / temperature) up to a factor a row; 0 outside the top k."""
  temperature_B = jnp.where(temperature_B == 0, 1.0, temperature_B)
  z_BV = logits_BV / temperature_B[:, None]
  p_BV = jnp.exp(z_BV - jnp.max(z_BV, axis=-1, keepdims=True))

  def cut(p_BV):
    kth_B = kth_largest(p_BV, jnp.where(top_k_B == 0, p_BV.shape[1], top_k_B))
    return jnp.where(p_BV < kth_B[:, None], 0.0, p_BV)

  return jax.lax.cond(jnp.any(top_k_B > 0), cut, lambda p: p, p_BV)


def kth_largest(p_BV: Float[Array, "B V"], k_B: Int[Array, " B"]) -> Float[Array, " B"]:
  """The k-th largest of each row of numbers >= 0, by bisection over their bits."""
  bits_BV = jax.lax.bitcast_convert_type(p_BV, jnp.int32)  # ordered, where p >= 0

  def halve(_, bounds):
    low_B, high_B = bounds  # at least k are >= low; fewer than k are >= high
    middle_B = low_B + (high_B - low_B) // 2
    enough_B = jnp.sum(bits_BV >= middle_B[:, None], axis=-1) >= k_B
    return jnp.where(enough_B, middle_B, low_B), jnp.where(enough_B, high_B, middle_B)

  low_B = jnp.zeros_like(k_B)
  high_B = jnp.full_like(k_B, jnp.iinfo(jnp.int32).max)
  low_B, _ = jax.lax.fori_loop(0, 31, halve, (low_B, high_B))
  return jax.lax.bitcast_convert_type(low_B, jnp.float32)


def _nucleus(p_BV, race_BV, top_p_B, settled_B):
  """The first in the race of those in the nucleus."""
  allowed_B = jnp.where(top_p_B < 1, top_p_B * jnp.sum(p_BV, axis=-1), jnp.inf)

  def attempt(state):
    floor_B, token_B, settled_B = state
    first_B = smallest(jnp.where(p_BV > floor_B[:, None], race_BV, jnp.inf))
    p_B = jnp.take_along_axis(p_BV, first_B[:, None], axis=-1)[:, 0]
    above_B = jnp.sum(jnp.where(p_BV > p_B[:, None], p_BV, 0.0), axis=-1)
    token_B = jnp.where(settled_B, token_B, first_B)
    # Outside the nucleus: so is all that is no more probable.
    return p_B, token_B, settled_B | (above_B < allowed_B)

  zero_B = jnp.zeros_like(allowed_B)
  state = (zero_B, zero_B.astype(jnp.int32), settled_B)
  return jax.lax.while_loop(lambda state: ~jnp.all(state[2]), attempt, state)[1]


def smallest(x_BV: Float[Array, "B V"]) -> Int[Array, " B"]:
  """Where each row's smallest number stands first.

  argmin goes one number at a time on a CPU: 7 ms for 32 rows of 49,152. Here it looks
  at the smallest of each block, then into one block.
  """
  x_BV = jnp.pad(x_BV, ((0, 0), (0, -x_BV.shape[1] % BLOCK)), constant_values=jnp.inf)
  x_BNC = x_BV.reshape(x_BV.shape[0], -1, BLOCK)
  block_B = jnp.argmin(jnp.min(x_BNC, axis=-1), axis=-1)
  x_BC = jnp.take_along_axis(x_BNC, block_B[:, None, None], axis=1)[:, 0]
  return block_B * BLOCK + jnp.argmin(x_BC, axis=-1)


def exponentials(
  key_B2: UInt32[Array, "B 2"], step_B: Int[Array, " B"], count: int
) -> Float[Array, "B count"]:
  """Exponential noise, a number for each token of the vocabulary.

  Threefry makes the key of a row's draw; a multiplicative hash of 32 bits (lowbias32)
  spreads it over the vocabulary, at a fifth of what Threefry would cost there.
  """
  keys_B = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(key_B2), step_B)
  key_B2 = jax.random.key_data(keys_B)
  place_1V = jnp.arange(count, dtype=jnp.uint32)[None]
  bits_BV = _mix(_mix(place_1V ^ key_B2[:, :1]) + key_B2[:, 1:])
  return -jnp.log1p(-(bits_BV.astype(jnp.float32) + 0.5) * 2.0**-32)


def _mix(bits):
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
  return bits ^ (bits >> 16)
