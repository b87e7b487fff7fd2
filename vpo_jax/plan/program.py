"""Lowers the project's own step for a mesh, from shapes and shardings alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vpo_jax import errors
from vpo_jax.data import forest, order, packing
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import decode_weights, sharding, table
from vpo_jax.decoder import lora as loras
from vpo_jax.plan import models
from vpo_jax.sample import cache, decode
from vpo_jax.train import (
  computation,
  group_objective,
  groups,
  loop,
  objective,
  optimizer,
  pair_objective,
)
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step

_LOSSES = {
  "sft": objective.sft_from_config,
  "dpo": pair_objective.from_config,
  "train_groups": groups.from_config,
}
STEPS = 8  # steps to pack; the most frequent shape among them is compiled


@dataclasses.dataclass(frozen=True)
class Program:
  """A lowered step.

  Attributes:
    lowered: the result of `jax.jit(...).lower(...)`.
    trips: iterations of its outer loop: micro-batches or decode steps.
    bytes: of its arguments on one device, by kind.
    work: useful tokens and FLOPs of the whole step, on all devices.
    about: sizes, for the report.
    shape: of a micro-batch; None for sampling.
  """

  lowered: Any
  trips: int
  bytes: dict[str, int]
  work: computation.Computation
  about: dict[str, Any]
  shape: forest.Shape | None = None


def lower(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  devices: Sequence[Any],
) -> Program:
  """Lowers a stage's step for `devices`.

  Args:
    stage: sft, dpo, train_groups or sample.

  Raises:
    UserError: the config or its mesh does not fit the model or the devices.
  """
  mesh = sharding.make_mesh(config.mesh, devices)
  placement = sharding.place(model, mesh)
  if stage == "sample":
    return _sample(config, model, lengths, placement)
  return _train(stage, config, model, lengths, placement)


def _train(stage, config, model, lengths, placement) -> Program:
  loop.check(config)
  policy = policies.Policy(model, config.precision, config.remat, placement.batch)
  loss = _LOSSES[stage](config)
  if isinstance(loss, group_objective.Kto):
    raise errors.UserError(
      "config.loss='kto' cannot be planned: its reference point is computed in another"
      " pass; plan plackett_luce, whose step costs the same"
    )
  tx = optimizer.make(config.optimizer, 1000)
  examples, plan = _pack(stage, config, model, lengths, placement.mesh)
  shape, micros = plan.shapes[0], plan.steps[0]

  params, frozen = _params(table.table(model), placement.params, jnp.float32), None
  lora = loras.from_config(config.lora)
  if lora:
    adapters = lora.declare(model)
    shardings = sharding.params(model, placement.mesh, adapters)
    placement = sharding.Placement(placement.mesh, shardings)
    params, frozen = _params(adapters, shardings, jnp.float32), params
  moments = jax.tree.map(
    _sharded,
    jax.eval_shape(tx.init, params),
    train_step.state_shardings(params, tx, placement),
  )
  step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=placement.replicated)
  micro_batches: Any = jax.ShapeDtypeStruct(
    (), jnp.int32, sharding=placement.replicated
  )
  batch = _batch(examples, plan, placement.mesh)
  state = train_step.State(step, params, moments)
  run = train_step.make_step(policy, loss, tx, placement, lora)
  return Program(
    lowered=run.lower(state, frozen, batch, micro_batches, shape),  # pyright: ignore[reportFunctionMemberAccess]
    trips=len(micros),
    bytes={
      "weights": _bytes((params, frozen)),
      "optimizer": _bytes(moments),
      "batch": _bytes(batch),
    },
    work=computation.of_step(examples, shape.stem, micros, model, lora is not None),
    about={
      "examples": config.batch_size,
      "micro_batches": len(micros),
      "rows": shape.rows,
      "row_tokens": shape.row,
      "padding": plan.padding,
      "mesh": dict(placement.mesh.shape),
    },
    shape=shape,
  )


def _pack(stage, config, model, lengths, mesh):
  """Examples of `STEPS` steps, and the plan that packs them."""
  count = STEPS * config.batch_size
  responses = {"sft": 1, "dpo": 2, "train_groups": lengths.candidates}
  examples = models.examples(lengths, responses[stage], count)
  plan = packing.plan(
    examples,
    order.batches(count, config.batch_size, 1, config.seed, shuffle=False),
    groups=sharding.groups(mesh),
    budget=config.micro_tokens,
    flops_per_token=model.flops_per_token,
  )
  return examples, plan


def _batch(examples, plan, mesh) -> Any:
  """Shapes and shardings of a step's micro-batches."""
  height = max(len(micros) for micros in plan.steps)
  where = NamedSharding(mesh, PartitionSpec(None, *sharding.BATCH))
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      (height, sharding.groups(mesh), *leaf.shape[1:]), leaf.dtype, sharding=where
    ),
    forest.build(examples, plan.shapes[0], plan.steps[0][0], groups=[0]),
  )


def _sample(config, model, lengths, placement) -> Program:
  """One block of decode steps, with all slots in use."""
  mesh, dtype, slots = placement.mesh, config.precision, config.slots
  length = 256  # positions of a slot, as schedule.FIRST_POOL
  steps = 8  # of a block, as schedule.Scheduler
  params = _params(table.table(model), placement.params, jnp.dtype(dtype))
  params = _unstacked(params, model, mesh)

  def array(shape: tuple[int, ...], spec: PartitionSpec) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

  def layers(batch: tuple[int, ...], length: int, spec: PartitionSpec) -> Any:
    heads, size = (*batch, model.kv_heads), model.head_dim
    layer = {
      "k": array((*heads, size, length), spec),
      "v": array((*heads, length, size), spec),
    }
    return (layer,) * model.layers

  own = layers((slots,), length, cache.SLOTS)
  stem = layers((), lengths.stem, cache.STEM)
  where = placement.batch

  def slot(dtype: Any, shape: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((slots, *shape), dtype, sharding=where)

  state = decode.Slots(
    token=slot(np.int32),
    position=slot(np.int32),
    drawn=slot(np.int32),
    remaining=slot(np.int32),
    on_stem=slot(bool),
    ends_at_stop=slot(bool),
    key=slot(np.uint32, (2,)),
    temperature=slot(np.float32),
    top_p=slot(np.float32),
    top_k=slot(np.int32),
  )
  lowered = decode.block.lower(
    params,
    stem,
    own,
    state,
    steps=steps,
    stop=(0,),
    config=model,
    mesh=mesh,
    dtype=dtype,
  )
  drawn = slots * steps
  keys = lengths.stem + lengths.query + lengths.response / 2
  flops = model.flops_per_token(keys) + 2 * model.d_model * model.vocab
  return Program(
    lowered=lowered,
    trips=steps,
    bytes={
      "weights": _bytes(params),
      "cache": _bytes((own, stem)),
      "batch": _bytes(state),
    },
    work=computation.Computation(drawn, drawn, drawn * flops),
    about={
      "examples": drawn / (lengths.response * config.num_candidates),
      "slots": slots,
      "steps": steps,
      "mesh": dict(mesh.shape),
    },
  )


def _params(declared: Any, shardings: Any, dtype: Any) -> Any:
  return jax.tree.map(
    lambda weight, where: jax.ShapeDtypeStruct(weight.shape, dtype, sharding=where),
    declared,
    shardings,
  )


def _unstacked(params: Any, model: decoder_config.DecoderConfig, mesh: Any) -> Any:
  """Layers in the layout of sampling; see `sample.lm`."""

  def one(leaf: jax.ShapeDtypeStruct) -> Any:
    spec = (*leaf.sharding.spec, *[None] * len(leaf.shape))[1 : len(leaf.shape)]
    matrix = len(leaf.shape) == 3
    order = -1 if matrix else 1  # matrices are transposed
    shape = leaf.shape[1:][::order]
    sharding = NamedSharding(mesh, PartitionSpec(*spec[::order]))
    array = jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
    return decode_weights.Transposed(array) if matrix else array  # pyright: ignore[reportArgumentType]

  layer = {name: one(leaf) for name, leaf in params["layers"].items()}
  return params | {"layers": (layer,) * model.layers}


def _sharded(shape: Any, sharding: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _bytes(tree: Any) -> int:
  """Bytes on one device."""
  return sum(
    int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )
