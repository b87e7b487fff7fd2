"""The planner against counts by hand, and against steps that run."""

import dataclasses

import jax
import pytest

from configs import dpo, sft, train_groups
from tests.plan import steps
from vpo_jax.data import order, packing
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import head, known
from vpo_jax.plan import compile_cache, hlo_cost, models, program, worker

SMALL = decoder_config.parse(
  known.MODELS["smollm2-135m"]
  | {"num_hidden_layers": 4, "vocab_size": 2048, "hidden_size": 192}
  | {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 512}
)
LENGTHS = models.Lengths(stem=60, query=16, response=40)


def flops_by_hand(model, shape, micros, remat):
  """FLOPs of the matrix products of a step of one group, from its sizes.

  Every token of a micro-batch, padding included, passes through the layers' matrices.
  A row's tokens attend to the stem and the row, the stem's to the stem. The backward
  pass costs twice the forward pass and recomputes attention's scores. With full
  rematerialization the layers also run forward again, except for the last product,
  whose result is not needed. The head computes its logits twice, and two products in
  the backward pass.
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


def counted_and_by_hand(config, model, lengths, stage="dpo", responses=2):
  lowered = program.lower(stage, config, model, lengths, jax.devices()[:1])
  compiled = lowered.lowered.compile()
  # Weights and optimizer state are donated: there is never a second copy.
  state = lowered.bytes["weights"] + lowered.bytes["optimizer"]
  assert compiled.memory_analysis().alias_size_in_bytes >= state
  counted = hlo_cost.analyze(compiled.as_text(), lowered.trips).flops
  size = program.STEPS * config.batch_size
  plan = packing.plan(
    models.examples(lengths, responses, size),
    order.batches(size, config.batch_size, 1, 0, shuffle=False),
    groups=1,
    budget=config.micro_tokens,
    flops_per_token=model.flops_per_token,
  )
  micros = len(plan.steps[0])
  return counted, flops_by_hand(model, plan.shapes[0], micros, config.remat)


@pytest.mark.parametrize(
  ("remat", "precision"), [("none", "float32"), ("full", "bfloat16")]
)
def test_flops_equal_the_count_by_hand(monkeypatch, remat, precision):
  # Several blocks of logits: XLA would keep a single one for the backward pass.
  monkeypatch.setattr(head, "MAX_LOGITS_ON_CPU", 2**16)
  config = dpo.get_config()
  config.update(batch_size=8, micro_tokens=1024, remat=remat, precision=precision)
  config.mesh.fsdp = 1
  counted, by_hand = counted_and_by_hand(config, SMALL, LENGTHS)
  assert abs(counted / by_hand - 1) < 0.02


def test_frozen_weights_of_lora_have_no_gradients():
  """Their gradients are a third of a full step, in the program and in its count."""
  config = sft.get_config()
  config.update(batch_size=8, micro_tokens=1024, remat="none", precision="float32")
  config.mesh.fsdp = 1

  def count(rank):
    config.lora.rank = rank
    lowered = program.lower("sft", config, SMALL, LENGTHS, jax.devices()[:1])
    text = lowered.lowered.compile().as_text()
    return hlo_cost.analyze(text, lowered.trips).flops, lowered.work.flops

  (lora, useful), (full, useful_full) = count(2), count(0)
  # Not exactly 2/3: attention's scores keep both gradients, and adapters add products.
  assert 0.65 < useful / useful_full < 0.75
  assert 0.65 < lora / full < 0.8


def test_flops_of_groups_of_sixteen_equal_the_count_by_hand(monkeypatch):
  monkeypatch.setattr(head, "MAX_LOGITS_ON_CPU", 2**16)
  config = train_groups.get_config()
  config.update(batch_size=2, micro_tokens=1024, remat="full")
  config.mesh.fsdp = 1
  lengths = dataclasses.replace(LENGTHS, candidates=16)
  counted, by_hand = counted_and_by_hand(config, SMALL, lengths, "train_groups", 16)
  assert abs(counted / by_hand - 1) < 0.02


def test_flops_of_llama_3_8b_equal_the_count_by_hand():
  config = dpo.get_config()
  config.mesh.fsdp = 1
  model = models.read("llama3-8b")
  counted, by_hand = counted_and_by_hand(config, model, models.Lengths())
  assert abs(counted / by_hand - 1) < 0.02


@pytest.mark.slow
def test_memory_equals_that_of_a_real_run_on_eight_devices(tmp_path, monkeypatch):
  """Live arrays of state and batch, and the temporaries of the running program."""
  monkeypatch.setenv("VPO_JAX_CACHE", str(tmp_path))
  config = sft.get_config()
  config.update(batch_size=16, micro_tokens=512)
  request = compile_cache.Request("sft", config, SMALL, LENGTHS, worker.HOST, 8)
  planned = compile_cache.get(request)["memory"]

  run, state, feed = steps.training_step(config, SMALL, LENGTHS)
  batch = feed(0)
  live = sum(
    shard.data.nbytes
    for leaf in jax.tree.leaves((state, batch[0]))
    for shard in leaf.addressable_shards
    if shard.device == jax.devices()[0]
  )
  arguments = sum(planned[kind] for kind in ("weights", "optimizer", "batch"))
  assert abs(arguments / live - 1) < 0.05
  compiled = run.lower(state, None, *batch).compile()
  peak = live + compiled.memory_analysis().temp_size_in_bytes
  assert abs(planned["peak"] / peak - 1) < 0.05
