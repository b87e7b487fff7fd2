"""Cached decoding draws transformers' greedy answers, with a model of every family."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import torch

from tests import families
from tests.sample import test_decode
from vpo_jax.decoder import directory
from vpo_jax.sample import lm, prefill

QUERIES = [
  "x",
  "a cat on a skateboard",
  "一只熊猫在竹林里吃竹子",
  "Ein Papierboot treibt im Rinnstein",
  "un perro corre por la playa al amanecer",
  "кот сидит на окне",
  "猫が屋根の上で眠っている",
  "فراشة على زهرة",
  "돌고래가 파도를 탄다",
  "एक लाल पतंग",
  'slow motion, {braces} and "quotes" -camera zoom in\nsecond line',
  "an astronaut rides a horse over a green hill under two moons, cinematic " * 2,
  "robot",
  "two kids fly a kite; then it rains",
  "🌊🏄 big wave",
  "a 1950s diner at night, neon signs flicker, rain on the window, film grain",
  "Make me a video about my grandmother's garden in spring please",
  "timelapse of clouds",
  "ein Hund\tund\teine Katze",
  "a" * 60,
]
GREEDY = dataclasses.replace(test_decode.GREEDY, max_new_tokens=64)


@pytest.fixture(params=families.FEW)
def family(request, tiny_model, tmp_path):
  """(transformers' model, ours loaded for sampling)"""
  theirs = families.make(request.param, tmp_path)
  for name in directory.COMPANIONS:
    if (tiny_model / name).exists():
      shutil.copy(tiny_model / name, tmp_path / name)
  return theirs, lm.load(str(tmp_path))


def test_greedy_equals_transformers(family):
  """Each of our tokens is transformers' most probable one, given those before it.

  Prompts share the instruction's cache, which is longer than any window here; one has
  none of it.
  """
  theirs, policy = family
  prompts = [policy.prompt(query) for query in QUERIES]
  prompts.append(policy.chat([{"role": "user", "content": "hello"}]))
  ours = test_decode.tokens_of(policy, prompts, GREEDY, slots=8)
  for prompt, [row] in zip(prompts, ours, strict=True):
    with torch.no_grad():
      logits = theirs(torch.tensor([[*prompt.tokens, *row[:-1]]])).logits[0]
    expected = logits[len(prompt.tokens) - 1 :].argmax(-1).numpy()
    np.testing.assert_array_equal(row, expected)


@pytest.mark.slow
def test_int8_decoding_is_close_to_float32(family):
  """Of the first drawn token's log-probabilities; weights are rounded to 8 bits."""
  _, policy = family
  rounded = lm.load(str(policy.folder), precision="int8")
  prompt = policy.prompt(QUERIES[1])

  def logps(model):
    tokens = np.asarray(prompt.tokens, np.int32)
    zeros = np.zeros(len(tokens), np.int32)
    last = np.asarray([len(tokens) - 1], np.int32)
    _, logits = prefill.chunk(
      model.params,
      None,
      tokens,
      zeros,
      np.arange(len(tokens), dtype=np.int32),
      last,
      np.bool_(False),
      model.config,
      model.dtype,
    )
    return np.asarray(jax.nn.log_softmax(logits[0]))

  ours, exact = logps(rounded), logps(policy)
  assert np.corrcoef(ours, exact)[0, 1] > 0.99
