"""The packing check: the packed forest against plain rows, before training begins.

The forest computes shared tokens once (`data.forest`), which must not change what is
learned. On the first micro-batch this compares the log-probability of each response and
the gradient of the loss with those of plain causal rows, in the run's own precision and
on its own mesh. The plain rows use the same layers, but attention without a kernel.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vpo_jax import errors
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest, packing, plain_rows
from vpo_jax.decoder import attention, head, model, sharding
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console
from vpo_jax.train import objective as objectives
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step


@dataclasses.dataclass(frozen=True)
class Differences:
  """How far the packed forest and plain rows differ.

  Attributes:
    logp: the largest difference of a response's log-probability, in nats.
    gradient: norm of the difference of the loss's gradients, divided by the norm of the
      gradient of plain rows; None if only log-probabilities were compared.
  """

  logp: float
  gradient: float | None = None


# Largest differences that rounding explains. That of a log-probability is multiplied by
# the root of the response's tokens, because rounding errors are independent. SmolLM2
# has up to 2e-5 and 8e-6 in float32, 0.05 and 0.03 in bfloat16 (docs/performance.md).
LIMITS = {"float32": Differences(3e-4, 1e-3), "bfloat16": Differences(0.3, 0.25)}


def first_micro_batch(
  examples: Sequence[data_examples.Example],
  plan: packing.Plan,
  placement: sharding.Placement,
  reference: forest.TokenValues | None = None,
  reward_XE: np.ndarray | None = None,
) -> tuple[forest.Forest, plain_rows.PlainRows, forest.Shape]:
  """The first micro-batch of a run on its devices, its plain rows and its shape.

  Args: as in `forest.build`.
  """
  shape, micro, own = plan.shapes[0], plan.steps[0][0], placement.own_groups
  packed = forest.build(examples, shape, micro, reference, reward_XE, own)
  rows = plain_rows.build(examples, shape, micro, own)
  return (*placement.shard_groups((packed, rows)), shape)


def plain_logps(
  policy: policies.Policy,
  params: Params,
  rows: plain_rows.PlainRows,
) -> Float[Array, "G P"]:
  """`policy.token_logps`, computed from plain rows; differentiable.

  Chunks are computed one after the other, and again in the backward pass, so that
  memory does not depend on their number.
  """
  G, _, B, W = rows.tokens_GCBW.shape
  S = rows.target_GCBS.shape[-1]
  config, precision = policy.config, policy.precision
  devices = 1 if policy.rows is None else policy.rows.mesh.size
  position_XW = jnp.broadcast_to(jnp.arange(W), (G * B, W))
  attend = attention.causal(config, precision)

  @jax.checkpoint
  def chunk(tokens_GBW: Array, first_GB: Array, target_GBS: Array) -> Array:
    x_XWD, _ = model.hidden(
      params,
      tokens_GBW.reshape(G * B, W),
      position_XW,
      attend,
      config,
      dtype=precision,
      remat=policy.remat,
      row_sharding=policy.rows,
    )
    # Past the response's end the index is meaningless, and `where_GP` does not use it.
    source_GBS = jnp.minimum(first_GB[..., None] + jnp.arange(S)[None, None], W - 1)
    source_XS1 = source_GBS.reshape(G * B, S)[..., None]
    x_GPD = jnp.take_along_axis(x_XWD, source_XS1, axis=1).reshape(G, B * S, -1)
    target_GP = target_GBS.reshape(G, B * S)
    blocks = head.blocks(B * S, config.vocab, devices)
    return head.logps(
      x_GPD, model.head(params), target_GP, blocks, precision, config.logit_cap
    )

  arrays = (rows.tokens_GCBW, rows.first_GCB, rows.target_GCBS)
  by_chunk = [jnp.moveaxis(jnp.asarray(array), 1, 0) for array in arrays]
  logp_CGP = jax.lax.map(lambda one: chunk(*one), by_chunk)
  logp_GP = jnp.moveaxis(logp_CGP, 0, 1).reshape(G, -1)
  return jnp.take_along_axis(logp_GP, jnp.asarray(rows.where_GP), axis=-1)


def reference(
  policy: policies.Policy,
  params: Params,
  packed: forest.Forest,
  rows: plain_rows.PlainRows,
  shape: forest.Shape,
) -> Differences:
  """Compares log-probabilities only, for the pass over the reference model.

  Args:
    policy: the model's computation.
    params: of the model.
    packed: the first micro-batch, on its devices.
    rows: the same responses as plain rows.
    shape: of the packed forest.

  Raises:
    UserError: they differ by more than rounding explains.
  """

  @jax.jit
  def compare(params: Params, packed: forest.Forest, rows: plain_rows.PlainRows):
    logps = (
      policy.token_logps(params, packed, shape),
      plain_logps(policy, params, rows),
    )
    ours, theirs = (objectives.Responses.of(packed, one).logp_GNE for one in logps)
    return jnp.abs(ours - theirs)

  gap_GNE = compare(params, packed, rows)
  return _judge("reference pass", policy.precision, gap_GNE, packed.tokens_GNE)


def training(
  policy: policies.Policy,
  objective: objectives.Objective,
  placement: sharding.Placement,
  trained: Params,
  packed: forest.Forest,
  rows: plain_rows.PlainRows,
  shape: forest.Shape,
  lora: loras.Lora | None = None,
  frozen: Params | None = None,
) -> Differences:
  """Compares log-probabilities, and gradients with respect to `trained`.

  It holds two gradients at a time, which is less than a training step needs.

  Args:
    policy, packed, rows, shape: as in `reference`.
    objective: the loss.
    placement: of `trained`.
    trained: the parameters that training starts from.
    lora: if not None, `trained` are its adapters of `frozen`.
    frozen: the model's weights with `lora`, otherwise None.

  Raises:
    UserError: they differ by more than rounding explains.
  """

  def packed_logps(params, packed, rows):
    return policy.token_logps(params, packed, shape)

  def logps_of_rows(params, packed, rows):
    return plain_logps(policy, params, rows)

  def gradients(logps: Callable[..., Array]) -> tuple[Params, Array]:
    def loss(trained, frozen, packed, rows):
      params = loras.join(lora, frozen, trained)
      logp_GP = logps(params, packed, rows)
      baseline = 0.0
      if isinstance(objective, objectives.WithBaseline):
        constant = jax.lax.stop_gradient(logp_GP)
        parts = objective.baseline(objectives.Responses.of(packed, constant))
        baseline = train_step.mean_baseline(parts)
      responses = objectives.Responses.of(packed, logp_GP, baseline)
      total, weight, _ = objective(responses)
      return total / weight, responses.logp_GNE

    compute = jax.jit(
      jax.grad(loss, has_aux=True), out_shardings=(placement.params, None)
    )
    return compute(trained, frozen, packed, rows)

  ours, logp_GNE = gradients(packed_logps)
  theirs, plain_GNE = gradients(logps_of_rows)
  gap_GNE, gradient = _compare(ours, theirs, logp_GNE, plain_GNE)
  return _judge(
    "training", policy.precision, gap_GNE, packed.tokens_GNE, float(gradient)
  )


@jax.jit
def _compare(
  ours: Params, theirs: Params, logp_GNE: Array, plain_GNE: Array
) -> tuple[Array, Array]:
  gap = optax.tree.norm(jax.tree.map(jnp.subtract, ours, theirs))
  norm = jnp.maximum(optax.tree.norm(theirs), jnp.finfo(jnp.float32).tiny)
  return jnp.abs(logp_GNE - plain_GNE), gap / norm


def _judge(
  what: str,
  precision: str,
  gap_GNE: jax.Array,
  tokens_GNE: jax.Array,
  gradient: float | None = None,
) -> Differences:
  """Prints the differences and returns them.

  Values that are not finite are left to the training step, which names the rows.
  """
  limits = LIMITS[precision]
  gaps = sharding.to_host(gap_GNE).ravel()
  limit_of_each = limits.logp * np.sqrt(sharding.to_host(tokens_GNE).ravel())
  # Where there is no response, both are 0.
  worst = int(np.argmax(gaps / np.maximum(limit_of_each, limits.logp)))
  found = Differences(float(gaps[worst]), gradient)
  line = (
    f"packing check, {what}: packed and plain rows differ by at most {found.logp:.1e}"
    f" nats in a response's log-probability (limit {limit_of_each[worst]:.1e})"
  )
  if gradient is not None:
    line += f" and by {gradient:.1e} of the gradient (limit {limits.gradient:.1e})"
  if found.logp > limit_of_each[worst] or (
    gradient is not None and limits.gradient and gradient > limits.gradient
  ):
    raise errors.UserError(
      f"{line}; stopped. This is a fault of vpo-jax or of a kernel: please report the"
      " model and this line. config.check_packing=False skips the check"
    )
  console.say(line)
  return found
