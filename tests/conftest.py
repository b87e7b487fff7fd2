"""Eight host devices and a cache of compiled programs, set before JAX starts."""

import os
import tempfile

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # "cuda,cpu" tries a GPU
os.environ["HF_HUB_OFFLINE"] = "1"
# A run that is killed and begun again, or done in another process, compiles the same
# programs; fresh for every run of the tests, and each worker's its own.
_CACHE = tempfile.TemporaryDirectory(prefix="vpo-jax-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import pytest  # noqa: E402

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
  from vpo_jax.decoder import source

  return source.resolve(source.SMOLLM2)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
  """A directory: two small layers, random weights, the embedded default's tokenizer."""
  from vpo_jax.bench import shapes

  shape = shapes.SHAPES["llama-3.2-1b"] | {
    "vocab_size": 49152,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
  }
  return shapes.write(shape, tmp_path_factory.mktemp("tiny") / "model")
