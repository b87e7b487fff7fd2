"""The optimizer as a Python object."""

import pytest

from tests.sample.conftest import policy
from tests.serve.test_spans import scripted as replace_sampler
from vpo_jax import errors, rewriter
from vpo_jax.sample import settings
from vpo_jax.serve import optimize

__all__ = ["policy"]


@pytest.fixture(scope="module")
def rewrite(tiny_model):
  return rewriter.Rewriter(str(tiny_model))


def test_it_gives_the_prompt_of_launch_optimize(rewrite, policy):
  found = rewrite.optimize("a cat", seed=3, temperature=1.0, max_new_tokens=8)
  sampling = settings.Settings(temperature=1.0, max_new_tokens=8, seed=3)
  assert found == optimize.optimize(policy, ["a cat"], sampling, slots=1)[0]


def test_it_is_called_for_the_prompt(rewrite, monkeypatch):
  replace_sampler(monkeypatch, *[["A red ball falls. It is calm."]] * 3)
  prompt = rewrite("a red ball", target="miniature", keep=["sks"])
  assert prompt == "sks, A red ball falls. It is calm."


def test_a_prompt_that_is_no_use_is_an_error(rewrite, monkeypatch):
  replace_sampler(monkeypatch, *[["!stop"]] * optimize.ATTEMPTS)
  with pytest.raises(errors.UserError, match="the prompt for 'a cat' is empty; tried"):
    rewrite("a cat")


def test_the_best_of_several_needs_a_predictor(rewrite):
  with pytest.raises(errors.UserError, match="needs Rewriter"):
    rewrite("a cat", best_of=2)
