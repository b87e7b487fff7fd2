import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import strategies
from nltk.translate import bleu_score

from vpo_jax.describe import bleu

_ALL = 10**9
_SETS = strategies.lists(
  strategies.lists(strategies.sampled_from("abcd"), max_size=7), min_size=2, max_size=8
)


def _series(texts):
  return pl.Series(texts, dtype=pl.List(pl.String))


def _nltk(texts):
  smooth = bleu_score.SmoothingFunction().method1
  return [
    bleu_score.sentence_bleu(
      texts[:n] + texts[n + 1 :], text, (1 / 3,) * 3, smoothing_function=smooth
    )
    for n, text in enumerate(texts)
  ]


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(_SETS)
def test_self_bleu_equals_nltks(texts):
  np.testing.assert_allclose(
    bleu.self_bleu(_series(texts), _ALL), _nltk(texts), atol=1e-12
  )


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(_SETS, strategies.sampled_from([0.2, 0.5, 0.8]))
def test_no_kept_text_is_above_the_bound(texts, bound):
  texts = _series(texts)
  drop = bleu.similar(texts, _ALL, bound)
  assert bleu.self_bleu(texts.filter(~pl.Series(drop)), _ALL).max() <= bound


def test_the_first_of_equal_texts_is_kept():
  texts = ["a b c d e f", "u v w x y z", "a b c d e f", "k l m n o p"]
  drop = bleu.similar(_series([text.split() for text in texts]), _ALL, 0.8)
  assert drop.tolist() == [False, False, True, False]


def test_texts_beyond_the_sample_are_compared_with_it():
  texts = ["a b c d e f", "u v w x y z", "a b c d e f", "k l m n o p", "k l m n o p"]
  drop = bleu.similar(_series([text.split() for text in texts]), 2, 0.8)
  assert drop.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("texts", [[], [[]], [["a", "b"]]])
def test_a_single_text_has_self_bleu_zero(texts):
  assert bleu.self_bleu(_series(texts), _ALL).tolist() == [0.0] * len(texts)
  assert not bleu.similar(_series(texts), _ALL, 0.5).any()


def test_chunking_does_not_change_the_scores(monkeypatch):
  generator = np.random.default_rng(0)
  words = generator.integers(0, 30, size=(200, 9)).astype(str)
  texts = _series(words.tolist())
  expected = bleu.self_bleu(texts, 50)
  monkeypatch.setattr(bleu, "_CHUNK", 7)
  np.testing.assert_array_equal(bleu.self_bleu(texts, 50), expected)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(_SETS)
def test_exact_self_bleu_equals_self_bleu_with_all_references(texts):
  rows = np.arange(0, len(texts), 2)
  expected = bleu.self_bleu(_series(texts), _ALL)
  np.testing.assert_allclose(bleu.exact_self_bleu(_series(texts), rows), expected[rows])


def test_fewer_references_give_lower_scores():
  generator = np.random.default_rng(0)
  words = generator.zipf(1.5, size=(2000, 12)).clip(max=300).astype(str)
  texts = _series(words.tolist())
  exact = bleu.self_bleu(texts, _ALL).mean()
  errors = [exact - bleu.self_bleu(texts, sample).mean() for sample in (50, 500, 1500)]
  assert errors[0] > errors[1] > errors[2] > 0
