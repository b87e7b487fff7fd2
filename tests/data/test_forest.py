"""A packed forest gives the results of plain rows."""

import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vpo_jax import curate, errors, templates
from vpo_jax.data import chat, families, forest, order, packing
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import attention, head, model, paths, table
from vpo_jax.decoder import config as decoder_config
from vpo_jax.train import objective
from vpo_jax.train import policy as policies

QUERIES = pathlib.Path(curate.__file__).parent / "queries.jsonl"
CONFIG = decoder_config.parse(
  {
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
  }
)


@pytest.fixture(autouse=True)
def split_the_head_into_several_blocks(monkeypatch):
  monkeypatch.setattr(head, "MAX_LOGITS_ON_CPU", 2**12)


def make_examples(seed, count, branches, stem=11, first=0):
  rng = np.random.default_rng(seed)

  def tokens(low, high):
    return rng.integers(1, CONFIG.vocab, rng.integers(low, high), dtype=np.int32)

  shared = tokens(stem, stem + 1) if stem else np.zeros(0, np.int32)
  return [
    data_examples.Example(
      str(i),
      np.concatenate([shared, np.asarray([i % CONFIG.vocab], np.int32), tokens(1, 9)]),
      tuple(tokens(1, 20) for _ in range(branches)),
    )
    for i in range(first, first + count)
  ]


def make_mixed(seed=0, branches=2):
  """Examples with two instructions of different length, and three without one."""
  parts = [(6, 70), (5, 50), (3, 0)]
  families = [
    make_examples(seed + part, count, branches, stem, first=20 * part)
    for part, (count, stem) in enumerate(parts)
  ]
  return [example for family in families for example in family]


def plain_logps(params, examples, config=CONFIG):
  """Log-probabilities of each (prompt, response) in a causal row, by a full softmax."""
  rows = [(e.prompt, r) for e in examples for r in e.responses]
  width = max(len(prompt) + len(response) for prompt, response in rows)
  tokens = np.zeros((len(rows), width), np.int32)
  answer = np.zeros((len(rows), width - 1), np.float32)
  for row, (prompt, response) in enumerate(rows):
    end = len(prompt) + len(response)
    tokens[row, :end] = np.concatenate([prompt, response])
    answer[row, len(prompt) - 1 : end - 1] = 1
  tokens = jnp.asarray(tokens)
  positions = jnp.broadcast_to(jnp.arange(width)[None], tokens.shape)
  x, _ = model.hidden(params, tokens, positions, attention.causal(config), config)
  logps = jax.nn.log_softmax(model.logits(params, x, config)[:, :-1])
  picked = jnp.take_along_axis(logps, tokens[:, 1:, None], axis=-1)[..., 0]
  return jnp.sum(answer * picked, axis=-1).reshape(len(examples), -1)


def forest_logps(params, examples, plan):
  """Log-probabilities [X, E] from all micro-batches of the first step."""
  policy = policies.Policy(CONFIG)
  result = [None] * len(examples)
  for micro in plan.steps[0]:
    batch = forest.build(examples, plan.shapes[0], micro)
    logp_GP = policy.token_logps(params, batch, plan.shapes[0])
    values = objective.Responses.of(batch, logp_GP).logp_GNE
    for group, rows in enumerate(micro):
      for tree, index in enumerate(i for row in rows for i in row):
        result[index] = values[group, tree]
  return jnp.stack(result)


def make_plan(examples, groups=1, budget=256):
  return packing.plan(
    examples,
    [list(range(len(examples)))],
    groups=groups,
    budget=budget,
    flops_per_token=CONFIG.flops_per_token,
  )


@pytest.mark.parametrize(
  ("branches", "stem", "groups"),
  [
    (1, 0, 2),
    (2, 11, 1),
    (2, 11, 2),
    *(
      pytest.param(*rest, marks=pytest.mark.slow)
      for rest in ((1, 0, 1), (1, 11, 1), (1, 11, 2), (2, 0, 1), (2, 0, 2))
    ),
  ],
)
def test_logps_and_gradients_equal_plain_rows(branches, stem, groups):
  examples = make_examples(0, 7, branches, stem)
  plan = make_plan(examples, groups)
  assert plan.shapes[0].stem == stem
  check_equal(examples, plan)


@pytest.mark.parametrize(
  ("prompt", "responses"),
  [
    pytest.param((60,), (12,) * 16, id="sixteen"),
    pytest.param((3400, 3300), (300, 300), marks=pytest.mark.slow, id="long"),
    pytest.param((1000, 500), (300,) * 16, marks=pytest.mark.slow, id="long sixteen"),
  ],
)
def test_long_rows_and_many_responses_equal_plain_rows(prompt, responses):
  """Prompts of several turns are long prompts; a row has up to 8,192 tokens."""
  rng = np.random.default_rng(0)

  def tokens(count):
    return rng.integers(1, CONFIG.vocab, count, dtype=np.int32)

  examples = [
    data_examples.Example(str(i), tokens(size), tuple(map(tokens, responses)))
    for i, size in enumerate(prompt)
  ]
  check_equal(examples, make_plan(examples, budget=8192))


def check_equal(examples, plan):
  """Log-probabilities and gradients are those of plain rows."""
  params = table.init(jax.random.key(0), CONFIG)
  params = jax.tree.map(lambda leaf: 5 * leaf, params)  # logits far from uniform
  shape = len(examples), len(examples[0].responses)
  scale = np.random.default_rng(1).normal(size=shape).astype(np.float32)

  def packed(params):
    logps = forest_logps(params, examples, plan)
    return jnp.sum(scale * logps), logps

  def plain(params):
    logps = plain_logps(params, examples)
    return jnp.sum(scale * logps), logps

  (_, ours), ours_grads = jax.jit(jax.value_and_grad(packed, has_aux=True))(params)
  (_, theirs), their_grads = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
  np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=1e-6)
  for a, b in zip(
    jax.tree.leaves(ours_grads), jax.tree.leaves(their_grads), strict=True
  ):
    assert jnp.linalg.norm(a - b) < 1e-4 * jnp.linalg.norm(b)


@pytest.mark.parametrize("groups", [1, 2])
def test_each_group_has_its_own_stem(groups):
  """Mixed instructions: each is computed once, and results equal plain rows'."""
  params = table.init(jax.random.key(0), CONFIG)
  params = jax.tree.map(lambda leaf: 5 * leaf, params)
  examples = make_mixed()
  plan = make_plan(examples, groups)
  assert plan.shapes[0].stem == 70
  stems, placed = set(), []
  for micro in plan.steps[0]:
    for rows in micro:
      members = [i for row in rows for i in row]
      placed += members
      if members:
        stems.add(forest.stem_tokens(examples, rows, plan.shapes[0].stem))
  assert stems == {0, 50, 70}
  assert sorted(placed) == list(range(len(examples)))

  def loss(logps_of):
    def total(params):
      logps = logps_of(params)
      return jnp.sum(logps * jnp.cos(jnp.arange(logps.size)).reshape(-1, 2)), logps

    return jax.jit(jax.value_and_grad(total, has_aux=True))(params)

  (_, ours), our_grads = loss(lambda params: forest_logps(params, examples, plan))
  (_, theirs), their_grads = loss(lambda params: plain_logps(params, examples))
  np.testing.assert_allclose(ours, theirs, atol=1e-3)
  for a, b in zip(
    jax.tree.leaves(our_grads), jax.tree.leaves(their_grads), strict=True
  ):
    assert jnp.linalg.norm(a - b) < 1e-4 * jnp.linalg.norm(b)


def test_examples_with_one_instruction_are_a_family():
  found = families.find(make_mixed())
  assert [(family.stem, family.members) for family in found] == [
    (70, [0, 1, 2, 3, 4, 5]),
    (50, [6, 7, 8, 9, 10]),
    (0, [11, 12, 13]),
  ]
  one = families.find(make_examples(0, 7, 1))
  assert [(family.stem, family.members) for family in one] == [(11, list(range(7)))]


@hypothesis.given(
  seed=st.integers(0, 10**6),
  count=st.integers(1, 12),
  branches=st.integers(1, 2),
  groups=st.integers(1, 3),
)
@hypothesis.settings(deadline=None, max_examples=15)
def test_each_path_of_the_mask_is_a_plain_row(seed, count, branches, groups):
  """The tokens that a leaf attends to are its prompt and response, in order."""
  examples = make_examples(seed, count, branches)
  plan = make_plan(examples, groups)
  seen = []
  for micro in plan.steps[0]:
    batch = forest.build(examples, plan.shapes[0], micro)
    shape = batch.tree_GRT.shape
    rows_of_paths, _ = paths.of_forest(
      jnp.asarray(batch.tree_GRT),
      jnp.asarray(batch.branch_GRT),
      jnp.asarray(batch.positions_GL),
      jnp.asarray(batch.stem_G),
    )
    mask = np.asarray(rows_of_paths.mask()).reshape(*shape, -1)
    for group, rows in enumerate(micro):
      for tree, index in enumerate(i for row in rows for i in row):
        seen.append(index)
        for branch, response in enumerate(examples[index].responses):
          leaf = tree * branches + branch
          at = batch.leaf_GP[group] == leaf
          np.testing.assert_array_equal(batch.target_GP[group][at], response)
          source = batch.source_GP[group][at][-1] - plan.shapes[0].stem
          row, column = divmod(int(source), plan.shapes[0].row)
          path = np.nonzero(mask[group, row, column])[0]
          path[path >= plan.shapes[0].stem] += row * plan.shapes[0].row
          expected = np.concatenate([examples[index].prompt, response[:-1]])
          np.testing.assert_array_equal(batch.tokens_GL[group, path], expected)
          np.testing.assert_array_equal(
            batch.positions_GL[group, path], np.arange(len(expected))
          )
          assert batch.tokens_GNE[group, tree, branch] == len(response)
  assert sorted(seen) == list(range(count))


def test_the_stem_never_includes_a_prompts_last_token():
  same = np.arange(1, 9, dtype=np.int32)
  examples = [data_examples.Example("a", same, (same,))] * 2
  assert len(data_examples.common_stem(examples)) == 7


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("size", [8, 16])
def test_few_shapes_keep_padding_under_a_tenth(smollm2, branches, size):
  """For the bundled queries in the instruction, with responses of 80 to 130 tokens."""
  smollm2_config = decoder_config.read(smollm2)  # for realistic FLOPs
  chat_format = chat.load(smollm2, smollm2_config.vocab)
  instruction = templates.load("instruction")
  rng = np.random.default_rng(0)
  examples = []
  for line in QUERIES.read_text().splitlines():
    content = templates.fill(instruction, query=json.loads(line)["text"])
    prompt, _ = chat_format.example([{"role": "user", "content": content}], [])
    responses = tuple(np.ones(rng.integers(80, 130), np.int32) for _ in range(branches))
    examples.append(data_examples.Example("", np.asarray(prompt, np.int32), responses))
  batches = order.batches(len(examples), size, 1, 0, True)

  def padding(shapes, budget):
    plan = packing.plan(
      examples,
      batches,
      groups=1,
      budget=budget,
      flops_per_token=smollm2_config.flops_per_token,
      shapes=shapes,
    )
    assert len(set(plan.shapes)) <= shapes
    for shape, micros, batch in zip(plan.shapes, plan.steps, batches, strict=True):
      placed = [i for micro in micros for rows in micro for row in rows for i in row]
      assert sorted(placed) == sorted(batch)
      assert all(len(micro[0]) == shape.rows for micro in micros)
    return plan.padding

  assert all(padding(4, budget) < 0.1 for budget in (2048, 4096))


def test_an_example_longer_than_the_budget_is_reported():
  with pytest.raises(errors.UserError, match="micro_tokens=32"):
    make_plan(make_examples(0, 4, 2, stem=0), budget=32)
