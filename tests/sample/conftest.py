"""The tiny model, loaded for sampling."""

import pytest

from vpo_jax.sample import lm


@pytest.fixture(scope="session")
def policy(tiny_model):
  return lm.load(str(tiny_model))
