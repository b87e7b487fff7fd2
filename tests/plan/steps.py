"""The training step on real arrays, to compare the planner with."""

import jax

from vpo_jax.data import order, packing
from vpo_jax.decoder import sharding, table
from vpo_jax.plan import models, program
from vpo_jax.train import loop, objective, optimizer
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step


def training_step(config, model, lengths):
  """The SFT step, its initial state, and a function from step number to batch."""
  placement = sharding.place(model, sharding.make_mesh(config.mesh))
  policy = policies.Policy(model, config.precision, config.remat, placement.batch)
  tx = optimizer.make(config.optimizer, 100)
  size = program.STEPS * config.batch_size
  split = loop.Split(models.examples(lengths, 1, size))
  plan = packing.plan(
    split.examples,
    order.batches(size, config.batch_size, 1, 0, shuffle=False),
    groups=sharding.groups(placement.mesh),
    budget=config.micro_tokens,
    flops_per_token=model.flops_per_token,
  )
  params = jax.jit(lambda key: table.init(key, model), out_shardings=placement.params)(
    jax.random.key(0)
  )
  state = train_step.init(params, tx, placement)
  run = train_step.make_step(policy, objective.sft, tx, placement)
  return run, state, loop.Feed(split, plan, placement)
