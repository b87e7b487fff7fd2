"""Draws follow the distributions of transformers' logits processors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vpo_jax.sample import choose, settings

DRAWS = 20_000


def draw(logits_V, count=DRAWS, temperature=1.0, top_p=1.0, top_k=0, seed=0):
  """`count` draws from the same logits, each with its own key."""
  keys = jnp.asarray(np.stack([settings.noise_key(seed, "", i) for i in range(count)]))

  def repeat(value, dtype):
    return jnp.full(count, value, dtype)

  return np.asarray(
    jax.jit(choose.choose)(
      jnp.broadcast_to(logits_V, (count, len(logits_V))),
      keys,
      repeat(0, jnp.int32),
      repeat(temperature, jnp.float32),
      repeat(top_p, jnp.float32),
      repeat(top_k, jnp.int32),
    )
  )


def theirs(logits_V, temperature=1.0, top_p=1.0, top_k=0):
  """transformers' distribution, with its warpers in the order it applies them."""
  warpers = [transformers.TemperatureLogitsWarper(temperature)]
  if top_k:
    warpers.append(transformers.TopKLogitsWarper(top_k))
  if top_p < 1:
    warpers.append(transformers.TopPLogitsWarper(top_p))
  scores = torch.tensor(logits_V)[None]
  for warper in warpers:
    scores = warper(None, scores)
  return torch.softmax(scores, -1)[0].numpy()


@pytest.mark.parametrize(
  "options",
  [
    {"temperature": 0.7},
    {"temperature": 0.9, "top_p": 0.9},
    {"temperature": 1.3, "top_p": 0.3},
    {"top_k": 5},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.6},
  ],
  ids=str,
)
def test_draws_follow_transformers_processors(options):
  logits = np.random.default_rng(0).normal(0, 2, 300).astype(np.float32)
  expected = theirs(logits, **options)
  seen = np.bincount(draw(logits, **options), minlength=300)
  assert seen[expected == 0].sum() == 0  # the same support
  common = expected * DRAWS > 5
  chi2 = ((seen - expected * DRAWS) ** 2 / np.maximum(expected * DRAWS, 1e-9))[common]
  freedom = common.sum() - 1
  assert chi2.sum() < freedom + 4 * np.sqrt(2 * freedom)


def test_the_support_is_transformers_for_a_real_vocabulary():
  """Nothing outside the nucleus is drawn from a vocabulary of 49,152."""
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 3, 49152).astype(np.float32)
  in_nucleus = theirs(logits, temperature=0.9, top_p=0.9) > 0
  drawn = draw(logits, count=400, temperature=0.9, top_p=0.9)
  assert in_nucleus[drawn].all()
  assert len(set(drawn.tolist())) > 10


def test_temperature_0_draws_the_most_probable_token():
  logits = np.random.default_rng(2).normal(size=1000).astype(np.float32)
  assert (draw(logits, count=9, temperature=0.0) == logits.argmax()).all()


def test_kth_largest():
  p = np.random.default_rng(3).random((4, 500)).astype(np.float32)
  k = jnp.array([1, 7, 499, 500])
  expected = [np.sort(row)[-n] for row, n in zip(p, k, strict=True)]
  np.testing.assert_array_equal(choose.kth_largest(jnp.asarray(p), k), expected)


def test_a_row_does_not_depend_on_the_other_rows():
  logits = np.random.default_rng(4).normal(size=(6, 200)).astype(np.float32)
  rows = (
    jnp.asarray(logits),
    jnp.stack([settings.noise_key(0, "", i) for i in range(6)]),
    jnp.arange(6),
    jnp.full(6, 1.0),
    jnp.full(6, 0.8),
    jnp.full(6, 0),
  )
  together = choose.choose(*rows)
  alone = [choose.choose(*(x[i : i + 1] for x in rows))[0] for i in range(6)]
  np.testing.assert_array_equal(together, np.stack(alone))


def test_noise_is_exponential_and_uncorrelated():
  keys = jnp.stack([settings.noise_key(0, "", i) for i in range(64)])
  noise = np.asarray(choose.exponentials(keys, jnp.zeros(64, jnp.int32), 4096))
  assert abs(noise.mean() - 1) < 0.01
  assert abs(noise.var() - 1) < 0.03
  assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.01
  assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.01
