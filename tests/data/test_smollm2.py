"""SmolLM2 on a packed forest equals plain rows, ours and transformers' (slow)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vpo_jax import curate
from vpo_jax.bench import rows
from vpo_jax.data import chat, forest, packing
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import attention, model, table, weights
from vpo_jax.decoder import config as decoder_config
from vpo_jax.train import objective
from vpo_jax.train import policy as policies

pytestmark = pytest.mark.slow
QUERIES = pathlib.Path(curate.__file__).parent / "queries.jsonl"


@pytest.fixture(scope="module")
def pairs(smollm2, tmp_path_factory):
  """Three preference pairs with the real instruction."""
  queries = [json.loads(line)["text"] for line in QUERIES.read_text().splitlines()]
  path = tmp_path_factory.mktemp("pairs") / "train.json"
  path.write_text(json.dumps(rows.make("dpo", queries, 3)))
  chat_format = chat.load(smollm2, decoder_config.read(smollm2).vocab)
  examples, _ = data_examples.read(path, chat_format, "dpo", 2048)
  return examples


@pytest.fixture(scope="module")
def scale():
  return np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def packed(smollm2, pairs, scale):
  """Log-probabilities in one micro-batch, and gradients of their weighted sum."""
  config = decoder_config.read(smollm2)
  params = weights.load(smollm2, config)
  plan = packing.plan(
    pairs,
    [[0, 1, 2]],
    groups=1,
    budget=1280,
    flops_per_token=config.flops_per_token,
  )
  (micro,) = plan.steps[0]
  order = [i for row in micro[0] for i in row]
  batch = forest.build(pairs, plan.shapes[0], micro)
  policy = policies.Policy(config, remat="cheap")

  def total(params):
    logp_GP = policy.token_logps(params, batch, plan.shapes[0])
    logps = objective.Responses.of(batch, logp_GP).logp_GNE[0, : len(pairs)]
    logps = jnp.zeros_like(logps).at[jnp.asarray(order)].set(logps)
    return jnp.sum(scale * logps), logps

  (_, logps), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
  return np.asarray(logps), grads, config, params


def plain_rows(pairs):
  """Yields (pair, branch, tokens of the row, start of the response)."""
  for i, pair in enumerate(pairs):
    for j, response in enumerate(pair.responses):
      yield i, j, np.concatenate([pair.prompt, response]), len(pair.prompt)


def test_forest_equals_plain_rows(pairs, scale, packed):
  logps, grads, config, params = packed

  def row_logp(params, tokens, start):
    positions = jnp.arange(len(tokens))[None]
    x, _ = model.hidden(
      params, tokens[None], positions, attention.causal(config), config
    )
    all_logps = jax.nn.log_softmax(model.logits(params, x, config))[0, start - 1 : -1]
    return jnp.sum(jnp.take_along_axis(all_logps, tokens[start:, None], axis=-1))

  step = jax.jit(jax.value_and_grad(row_logp), static_argnums=2)
  total = jax.tree.map(jnp.zeros_like, params)
  for i, j, tokens, start in plain_rows(pairs):
    value, grad = step(params, jnp.asarray(tokens), start)
    assert abs(float(value) - logps[i, j]) < 1e-3
    total = jax.tree.map(lambda t, g, s=scale[i, j]: t + s * g, total, grad)
  for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(total), strict=True):
    assert jnp.linalg.norm(ours - theirs) < 1e-4 * jnp.linalg.norm(theirs)


def test_forest_equals_transformers(smollm2, pairs, scale, packed):
  logps, grads, config, _ = packed
  # In float64, so that the whole gap is the rounding of our float32.
  llama = transformers.AutoModelForCausalLM.from_pretrained(
    smollm2, dtype=torch.float64
  )
  # torch computes no gradient for the embedding of the padding token, which here also
  # ends every message.
  llama.get_input_embeddings().padding_idx = None
  for i, j, tokens, start in plain_rows(pairs):
    row = torch.tensor(tokens)[None].long()
    all_logps = llama(row).logits[0, start - 1 : -1].log_softmax(-1)
    value = all_logps.gather(-1, row[0, start:, None]).sum()
    assert abs(value.item() - logps[i, j]) < 1e-3
    (float(scale[i, j]) * value).backward()
  theirs = {name: weight.grad.numpy() for name, weight in llama.named_parameters()}
  for name, ours in weights.hf_tensors(grads, table.table(config), "float32"):
    gap = np.linalg.norm(ours - theirs[name])
    assert gap < 1e-4 * np.linalg.norm(theirs[name]), name
