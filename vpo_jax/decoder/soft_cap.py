"""Gemma 2's bound of attention scores and logits (arXiv:2408.00118, section 2)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_cap(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
  """cap * tanh(x / cap), which lies between -cap and cap; x if `cap` is None."""
  return x if cap is None else cap * jnp.tanh(x / cap)


def slope(capped: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
  """Derivative of `soft_cap` at the point where its value is `capped`.

  0 where `capped` is the value of a masked place, far beyond the bound.
  """
  return 1 - jnp.square(jnp.clip(capped / cap, -1, 1))
