"""Eight host devices for every test, set before JAX starts."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest


@pytest.fixture(scope="session")
def smollm2():
  """The directory of the embedded default model."""
  from vpo_jax.llama import source

  return source.resolve(source.SMOLLM2)
