"""Eight host devices for every test, set before JAX starts."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

# Folders whose tests take longest: begun first, so that no worker waits for them.
_LONG = ("train", "distributed", "feedback", "sample", "plan", "bench")


def pytest_collection_modifyitems(items):
  def rank(item):
    folder = item.path.parent.name
    return _LONG.index(folder) if folder in _LONG else len(_LONG)

  items.sort(key=rank)


@pytest.fixture(scope="session")
def smollm2():
  """The directory of the embedded default model."""
  from vpo_jax.llama import source

  return source.resolve(source.SMOLLM2)
