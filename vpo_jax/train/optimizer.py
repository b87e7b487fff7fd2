"""AdamW with the paper's betas, and the schedules of paper and release."""

import math

import ml_collections
import optax

from vpo_jax import errors


def schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
  """The learning rate of each step; as in transformers, step 0 of a warmup has rate 0.

  Raises:
    UserError: there is no schedule of that name.
  """
  peak, warmup = config.peak_lr, math.ceil(config.warmup_ratio * steps)
  rest = max(1, steps - warmup)
  after = {
    "constant_with_warmup": optax.constant_schedule(peak),
    "linear": optax.linear_schedule(peak, 0.0, rest),
    "cosine": optax.cosine_decay_schedule(peak, rest),
  }
  if config.schedule not in after:
    raise errors.UserError(
      f"config.optimizer.schedule={config.schedule!r}: must be one of"
      f" {', '.join(after)}"
    )
  ramp = optax.linear_schedule(0.0, peak, max(1, warmup))
  return optax.join_schedules([ramp, after[config.schedule]], [warmup])


def make(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
  """AdamW after clipping by global norm; the schedule spans `steps` steps."""
  return optax.chain(
    optax.clip_by_global_norm(config.max_grad_norm),
    optax.adamw(
      schedule(config, steps),
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
    ),
  )
