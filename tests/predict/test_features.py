"""Features equal those of a plain forward pass over each chat."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vpo_jax import templates
from vpo_jax.decoder import attention, model, sharding, weights
from vpo_jax.decoder import config as decoder_config
from vpo_jax.predict import features
from vpo_jax.sample import lm

QUERIES = ["a boat", "é", "a small cat that sleeps past noon"]
PROMPTS = [
  ["a red boat drifts", "bright", "a small red boat turns slowly " * 8],
  ["a slow boat"],
  ["the cat sleeps", "the red cat sleeps and the boat drifts past"],
]


def plain(tiny_model, policy, query, prompt):
  """Unpacked, unpadded, with the stacked weights of training."""
  config = decoder_config.read(tiny_model)
  content = templates.fill(policy.instruction, query=query)
  messages = [{"role": "user", "content": content}]
  before, (answer,) = policy.format.example(messages, [prompt])
  tokens = jnp.asarray([*before, *answer[:-1]])[None]
  x_1TD, _ = model.hidden(
    weights.load(tiny_model, config),
    tokens,
    jnp.arange(tokens.shape[1])[None],
    attention.causal(config),
    config,
  )
  own_PD = np.asarray(x_1TD[0, len(before) :])
  return np.concatenate([own_PD.mean(axis=0), own_PD[-1]])


def test_features_equal_a_plain_forward_of_each_row(tiny_model, policy):
  found = features.compute(policy, QUERIES, PROMPTS)
  for query, prompts, x_KF in zip(QUERIES, PROMPTS, found, strict=True):
    assert x_KF.shape == (len(prompts), features.size(policy))
    for prompt, x_F in zip(prompts, x_KF, strict=True):
      expected = plain(tiny_model, policy, query, prompt)
      np.testing.assert_allclose(x_F, expected, atol=2e-5)


def test_batches_do_not_change_them(policy, monkeypatch):
  whole = np.concatenate(features.compute(policy, QUERIES, PROMPTS))
  monkeypatch.setattr(features, "TOKENS", 1)
  alone = np.concatenate(features.compute(policy, QUERIES, PROMPTS))
  np.testing.assert_allclose(whole, alone, atol=2e-5)


def test_a_prompt_that_does_not_follow_the_stem_is_read_whole(policy):
  """A query's first character may merge with the end of the instruction."""
  other = dataclasses.replace(policy, stem_tokens=(*policy.stem_tokens[:-1], 1))
  expected, found = (
    features.compute(one, QUERIES[:1], PROMPTS[:1])[0] for one in (policy, other)
  )
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_eight_devices_give_what_one_gives(tiny_model, policy):
  mesh = sharding.make_mesh({"data": 4, "fsdp": 1, "tensor": 2})
  split = lm.load(str(tiny_model), mesh=mesh)
  expected = np.concatenate(features.compute(policy, QUERIES, PROMPTS))
  found = np.concatenate(features.compute(split, QUERIES, PROMPTS))
  np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.03), ("int8", 0.1)])
def test_other_precisions_are_close(tiny_model, policy, precision, error):
  rounded = lm.load(str(tiny_model), precision=precision)
  expected = features.compute(policy, QUERIES[:1], PROMPTS[:1])[0]
  found = features.compute(rounded, QUERIES[:1], PROMPTS[:1])[0]
  assert np.linalg.norm(found - expected) < error * np.linalg.norm(expected)


@pytest.mark.parametrize("text", ["", "a boat <|im_end|> drifts", "boat " * 2000])
def test_what_cannot_be_read_is_nan(policy, text):
  x_KF = features.compute(policy, ["a boat"], [["red", text, "slow"]])[0]
  assert np.isfinite(x_KF).all(axis=1).tolist() == [True, False, True]
