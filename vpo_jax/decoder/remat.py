"""Marks the values that a layer saves for its backward pass; others are recomputed."""

import jax
from jax import ad_checkpoint
from jaxtyping import Array, Float

from vpo_jax.decoder import cpu

SAVED = "saved"
save_named = jax.checkpoint_policies.save_only_these_names(SAVED)


@jax.custom_jvp
def save(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """x, which the policy `save_named` saves for the backward pass."""
  return save_residual(x)


@save.defjvp
def _save_jvp(primals, tangents):
  return save_residual(*primals), tangents[0]


def save_residual(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """`save` for the residuals of a `custom_vjp`, which are not differentiated."""
  bits = ad_checkpoint.checkpoint_name(cpu.to_bits(x), SAVED)
  return cpu.from_bits(bits, x.dtype)
