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
  """Everything that a step changes."""

  step: Any  # int32 scalar; Orbax maps the tree to objects of its own
  params: Params
  opt_state: Any


Metrics = dict[str, jax.Array]
Count = jax.typing.ArrayLike  # how many of the micro-batches are the batch
Step = Callable[
  [State, Params | None, forest.Forest, Count, forest.Shape], tuple[State, Metrics]
]
Evaluate = Callable[[Params, forest.Forest, forest.Shape], Metrics]


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
  """Shardings of the optimizer state: a moment lies as its parameter does."""
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
  """Compiles nothing yet; returns `step(state, frozen, micros, count, shape)`.

  `state.params` are what is trained, laid out as `placement` says: all weights, and
  `frozen` is None; or with `lora` its adapters, and `frozen` the model's weights.
  `micros` is a `Forest` with a leading axis; its first `count` micro-batches are the
  batch. Their gradients are summed and divided by the batch's weight, so that how a
  batch was cut does not change the update. `state` is donated; each `shape` is
  compiled once.
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
      return _sums(policy, objective, shape, params, batch)

    def take(index: jax.Array | int) -> tuple[Params, Metrics]:
      micro = jax.tree.map(lambda leaf: leaf[index], micros)
      (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(state.params, micro)
      return jax.lax.with_sharding_constraint(grads, placement.params), sums

    def add(index: jax.Array, carry: Any) -> Any:
      return jax.tree.map(jnp.add, carry, take(index))

    if micros.tokens_GL.shape[0] == 1:  # no second copy of the gradients
      grads, sums = take(0)
    else:
      zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(take, 0))
      grads, sums = jax.lax.fori_loop(0, count, add, zero)
    weight = sums.pop("weight")
    grads, metrics = jax.tree.map(lambda leaf: leaf / weight, (grads, sums))
    metrics["grad_norm"] = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return State(state.step + 1, params, opt_state), metrics

  return jax.jit(step, donate_argnums=0, static_argnums=4)


def compiled(step: Step) -> Step:
  """`step` that compiles a new shape, gives back what that took, and only then runs it.

  SmolLM2's takes 0.4 GB to compile for a CPU; they would lie beside the step's own.
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
      allocator.give_back()
    return programs[shape](state, frozen, micros, count)

  return run


def make_evaluate(policy: policies.Policy, objective: objectives.Objective) -> Evaluate:
  """`evaluate(params, micro, shape)`: sums of one micro-batch, with their `weight`."""

  def evaluate(params: Params, batch: forest.Forest, shape: forest.Shape) -> Metrics:
    return _sums(policy, objective, shape, params, batch)[1]

  return jax.jit(evaluate, static_argnums=2)


def _sums(policy, objective, shape, params, batch):
  logps_GNE = policy.logps(params, batch, shape)
  total, weight, metrics = objective(logps_GNE, batch.reference_GNE, batch.tokens_GNE)
  return total, metrics | {"loss": total, "weight": weight}


def put(
  micros: list[forest.Forest], pad_to: int, placement: sharding.Placement
) -> forest.Forest:
  """Stacks micro-batches, repeats the last up to `pad_to`, lays groups on devices.

  Args:
    micros: each with this process's groups (`placement.own_groups`).
  """
  micros = micros + [micros[-1]] * (pad_to - len(micros))
  return placement.shard_groups(
    jax.tree.map(lambda *leaves: np.stack(leaves), *micros), axis=1
  )
