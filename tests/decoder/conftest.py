"""The model's own arithmetic never promotes a type or a rank by accident."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict():
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    yield
