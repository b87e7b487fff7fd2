"""The planner against counts by hand, and against steps that really run."""

import json
import statistics
import time

import jax
import pytest

from configs import dpo, sft
from vpo_jax.data import order, packing
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import head, sharding, table
from vpo_jax.plan import compiles, count, cpu, models, program, worker
from vpo_jax.train import loop, objective, optimizer
from vpo_jax.train import policy as policies
from vpo_jax.train import step as train_step

SMALL = decoder_config.parse(
  models.MODELS["smollm2-135m"]
  | {"num_hidden_layers": 4, "vocab_size": 2048, "hidden_size": 192}
  | {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 512}
)
LENGTHS = models.Lengths(stem=60, query=16, response=40)


def by_hand(model, shape, micros, remat):
  """Multiply-adds x 2 of the matrices of a step of one group, from its sizes.

  Every token of a micro-batch, padding too, goes through the layers' matrices; a row's
  tokens look at the stem and the row, the stem's at the stem. Backward is twice
  forward, and makes attention's scores again. With full recomputation the layers run
  forward once more but for the last product, whose result nobody wants. The head makes
  its logits twice, then two products backward.
  """
  m, s = model, shape
  tokens = s.stem + s.rows * s.row
  attention = m.d_model * m.head_dim * (2 * m.heads + 2 * m.kv_heads)
  matrices = attention + 3 * m.d_model * m.d_ff
  pairs = s.rows * s.row * (s.stem + s.row) + s.stem * s.stem
  layer = 2 * tokens * matrices + 4 * pairs * m.heads * m.head_dim
  layers = 3 * layer + 2 * pairs * m.heads * m.head_dim
  if remat == "full":
    layers += layer - 2 * tokens * m.d_model * m.d_ff
  head = 4 * 2 * s.predict * m.d_model * m.vocab
  return micros * (m.layers * layers + head)


def lowered(config, model, lengths, devices):
  return program.lower("dpo", config, model, lengths, devices)


def counted_and_by_hand(config, model, lengths):
  made = lowered(config, model, lengths, jax.devices()[:1])
  compiled = made.lowered.compile()
  # Donated: no second copy of weights and optimizer ever lives.
  state = made.bytes["weights"] + made.bytes["optimizer"]
  assert compiled.memory_analysis().alias_size_in_bytes >= state
  counted = count.cost(compiled.as_text(), made.loops).flops
  size = program.STEPS * config.batch_size
  plan = packing.plan(
    models.rows(lengths, 2, size),
    order.batches(size, config.batch_size, 1, 0, shuffle=False),
    groups=1,
    budget=config.micro_tokens,
    flops_per_token=model.flops_per_token,
  )
  return counted, by_hand(model, plan.shapes[0], len(plan.steps[0]), config.remat)


@pytest.mark.parametrize(
  ("remat", "precision"), [("none", "float32"), ("full", "bfloat16")]
)
def test_flops_are_those_of_the_count_by_hand(monkeypatch, remat, precision):
  # Several blocks of the head: of one, XLA would keep the logits for the backward pass.
  monkeypatch.setattr(head, "ON_CPU", 2**16)
  config = dpo.get_config()
  config.update(batch_size=8, micro_tokens=1024, remat=remat, precision=precision)
  config.mesh.fsdp = 1
  counted, hand = counted_and_by_hand(config, SMALL, LENGTHS)
  assert abs(counted / hand - 1) < 0.02


@pytest.mark.slow
def test_flops_of_llama_3_8b_are_those_of_the_count_by_hand():
  config = dpo.get_config()
  config.mesh.fsdp = 1
  model = models.read("llama3-8b")
  counted, hand = counted_and_by_hand(config, model, models.Lengths())
  assert abs(counted / hand - 1) < 0.02


def real_run(config, model, lengths):
  """The training step on real arrays: what it takes, its state and its batch."""
  placement = sharding.place(model, sharding.make_mesh(config.mesh))
  policy = policies.Policy(model, config.precision, config.remat, placement.batch)
  tx = optimizer.make(config.optimizer, 100)
  size = program.STEPS * config.batch_size
  split = loop.Split(models.rows(lengths, 1, size))
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


@pytest.mark.slow
def test_memory_is_what_a_real_run_holds_on_eight_devices(tmp_path, monkeypatch):
  """State and batch: bytes of live arrays on a device; temporaries: the program's."""
  monkeypatch.setenv("VPO_JAX_CACHE", str(tmp_path))
  config = sft.get_config()
  config.update(batch_size=16, micro_tokens=512)
  request = compiles.Request("sft", config, SMALL, LENGTHS, worker.HOST, 8)
  planned = compiles.find(request)["memory"]

  run, state, feed = real_run(config, SMALL, LENGTHS)
  batch = feed(0)
  live = [
    shard.data.nbytes
    for leaf in jax.tree.leaves((state, batch[0]))
    for shard in leaf.addressable_shards
    if shard.device == jax.devices()[0]
  ]
  given = sum(planned[kind] for kind in ("weights", "optimizer", "batch"))
  assert abs(given / sum(live) - 1) < 0.05
  compiled = run.lower(state, None, *batch).compile()
  state, _ = run(state, None, *batch)
  held = sum(live) + compiled.memory_analysis().temp_size_in_bytes
  assert abs(planned["peak"] / held - 1) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_time_of_smollm2_on_this_cpu_is_what_a_step_takes(precision):
  """The CPU's rates are measured here and now; wants a machine that is quiet."""
  config = sft.get_config()
  config.update(batch_size=8, precision=precision, micro_tokens=1024, remat="cheap")
  config.mesh.fsdp = 1
  model = models.read("smollm2-135m")
  predicted = cpu.step_seconds("sft", config, model, models.Lengths())
  run, state, feed = real_run(config, model, models.Lengths())
  times = []
  for step in range(5):
    batch = feed(step)
    began = time.perf_counter()
    state, metrics = run(state, None, *batch)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - began)
  measured = statistics.median(times[1:])
  print(json.dumps({"predicted": predicted, "measured": measured}))
  assert abs(predicted["seconds"] / measured - 1) < 0.25
