"""One training step: micro-batches in, the next state and metrics out."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vpo_jax.data import forest
from vpo_jax.decoder import lora as loras
from vpo_jax.decoder import sharding
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import allocator
from vpo_jax.train import objective as objectives
from vpo_jax.train import policy as policies


@flax.struct.dataclass
class State:
  """What a training step updates."""

  step: Any  # int32 scalar; Orbax maps the tree to objects of its own
  params: Params
  opt_state: Any


Metrics = dict[str, jax.Array]
Count = jax.typing.ArrayLike  # number of micro-batches that belong to the batch
Step = Callable[
  [State, Params | None, forest.Forest, Count, forest.Shape], tuple[State, Metrics]
]
Evaluate = Callable[[Params, forest.Forest, forest.Shape, jax.Array], Metrics]
Baseline = Callable[[Params, forest.Forest, forest.Shape], tuple[jax.Array, jax.Array]]


def init(
  params: Params,
  optimizer: optax.GradientTransformation,
  placement: sharding.Placement,
) -> State:
  """The state before the first step, sharded as the parameters are."""
  opt_state = jax.jit(
    optimizer.init, out_shardings=state_shardings(params, optimizer, placement)
  )(params)
  zero = functools.partial(jnp.zeros, (), jnp.int32)
  step = jax.jit(zero, out_shardings=placement.replicated)()
  return State(step, params, opt_state)


def state_shardings(
  params: Params,
  optimizer: optax.GradientTransformation,
  placement: sharding.Placement,
) -> Any:
  """Shardings of the optimizer state: a moment is sharded like its parameter."""
  shapes = jax.eval_shape(optimizer.init, params)
  return optax.tree_utils.tree_map_params(
    optimizer,
    lambda _, sharding: sharding,
    shapes,
    placement.params,
    transform_non_params=lambda _: placement.replicated,
  )


def make_step(
  policy: policies.Policy,
  objective: objectives.Objective,
  optimizer: optax.GradientTransformation,
  placement: sharding.Placement,
  lora: loras.Lora | None = None,
) -> Step:
  """Returns the jitted `step(state, frozen, micros, count, shape)`.

  Gradients are summed over micro-batches and divided by the weight of the whole batch,
  so the update does not depend on how the batch was split.

  - `state` (donated): `state.params` are the trained parameters, sharded as `placement`
    says: all weights, or the adapters with `lora`.
  - `frozen`: the model's weights with `lora`, otherwise None.
  - `micros`: a `Forest` with a leading axis of micro-batches.
  - `count`: how many of them belong to the batch; the rest is padding.
  - `shape`: static; each shape is compiled once.
  """

  def step(
    state: State,
    frozen: Params | None,
    micros: forest.Forest,
    count: jax.Array,
    shape: forest.Shape,
  ) -> tuple[State, Metrics]:
    def loss(trained: Params, batch: forest.Forest) -> tuple[jax.Array, Metrics]:
      params = loras.join(lora, frozen, trained)
      return _sums(policy, objective, shape, params, batch, baseline)

    def micro(index: jax.Array | int) -> forest.Forest:
      return jax.tree.map(lambda leaf: leaf[index], micros)

    def add_baseline(index: jax.Array, carry: Any) -> Any:
      params = loras.join(lora, frozen, state.params)
      found = _baseline(policy, objective, shape, params, micro(index))
      return jax.tree.map(jnp.add, carry, found)

    def take(index: jax.Array | int) -> tuple[Params, Metrics]:
      (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(
        state.params, micro(index)
      )
      return jax.lax.with_sharding_constraint(grads, placement.params), sums

    def add(index: jax.Array, carry: Any) -> Any:
      return jax.tree.map(jnp.add, carry, take(index))

    baseline = 0.0
    if isinstance(objective, objectives.WithBaseline):
      parts = jax.lax.fori_loop(0, count, add_baseline, (jnp.zeros(()), jnp.zeros(())))
      baseline = mean_baseline(parts)
    if micros.tokens_GL.shape[0] == 1:  # avoids a second copy of the gradients
      grads, sums = take(0)
    else:
      zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(take, 0))
      grads, sums = jax.lax.fori_loop(0, count, add, zero)
    weight = sums.pop("weight")
    grads, metrics = jax.tree.map(lambda leaf: leaf / weight, (grads, sums))
    metrics["grad_norm"] = optax.tree.norm(grads)
    with jax.numpy_dtype_promotion(
      "standard"
    ):  # optax mixes its int32 step with floats
      updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return State(state.step + 1, params, opt_state), metrics

  return jax.jit(step, donate_argnums=0, static_argnums=4)


def compiled(step: Step) -> Step:
  """A step that frees the memory of a shape's compilation before its first execution.

  Compiling SmolLM2's step for a CPU takes 0.4 GB, which would add to the step's peak.
  """
  programs: dict[forest.Shape, Any] = {}

  def run(
    state: State,
    frozen: Params | None,
    micros: forest.Forest,
    count: Count,
    shape: forest.Shape,
  ) -> tuple[State, Metrics]:
    if shape not in programs:
      lowered = step.lower(state, frozen, micros, count, shape)  # pyright: ignore[reportFunctionMemberAccess]
      programs[shape] = lowered.compile()
      allocator.trim_heap()
    return programs[shape](state, frozen, micros, count)

  return run


def make_evaluate(policy: policies.Policy, objective: objectives.Objective) -> Evaluate:
  """Returns the jitted `evaluate(params, micro, shape, baseline)`.

  It returns sums and their `weight`; `baseline` is that of the micro-batch's batch.
  """

  def evaluate(
    params: Params, batch: forest.Forest, shape: forest.Shape, baseline: jax.Array
  ) -> Metrics:
    return _sums(policy, objective, shape, params, batch, baseline)[1]

  return jax.jit(evaluate, static_argnums=2)


def make_baseline(
  policy: policies.Policy, objective: objectives.WithBaseline
) -> Baseline:
  """Returns the jitted `baseline(params, micro, shape)`: the sum and its weight."""

  def baseline(
    params: Params, batch: forest.Forest, shape: forest.Shape
  ) -> tuple[jax.Array, jax.Array]:
    return _baseline(policy, objective, shape, params, batch)

  return jax.jit(baseline, static_argnums=2)


def mean_baseline(parts: tuple[jax.Array, jax.Array]) -> jax.Array:
  """The baseline of a batch, of the sums of its micro-batches."""
  total, weight = parts
  return total / jnp.maximum(weight, 1.0)


def _sums(policy, objective, shape, params, batch, baseline):
  logp_GP = policy.token_logps(params, batch, shape)
  responses = objectives.Responses.of(batch, logp_GP, baseline)
  total, weight, metrics = objective(responses)
  return total, metrics | {"loss": total, "weight": weight}


def _baseline(policy, objective, shape, params, batch):
  logp_GP = policy.token_logps(params, batch, shape)
  return objective.baseline(objectives.Responses.of(batch, logp_GP))


def put(
  micros: list[forest.Forest], pad_to: int, placement: sharding.Placement
) -> forest.Forest:
  """Stacks micro-batches and puts their groups on the devices.

  Args:
    micros: each holds the groups of this process (`placement.own_groups`).
    pad_to: the last micro-batch is repeated up to this number.
  """
  micros = micros + [micros[-1]] * (pad_to - len(micros))
  return placement.shard_groups(
    jax.tree.map(lambda *leaves: np.stack(leaves), *micros), axis=1
  )
