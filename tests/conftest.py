"""Settings that must hold before JAX and this project are imported."""

import functools
import hashlib
import json
import os
import pathlib
import platform
import ssl
import time

# Several workers share the cores, so each has one thread. Set before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxlib
import jaxtyping

# Every client of an API would read the certificates again.
ssl.create_default_context = functools.cache(ssl.create_default_context)

# Annotations are checked at every call: shapes and types of arrays, and all others.
jaxtyping.install_import_hook(
  ["vpo_jax", "torch_bridge"],
  # An int is a float, as for type checkers.
  "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)


def _compilation_cache() -> str:
  """A folder for compiled programs that all runs, workers and subprocesses share.

  Compiled code is for one kind of CPU, and a home may be shared by several. Entries of
  a month's age are removed.
  """
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  cpu = pathlib.Path("/proc/cpuinfo")
  model = cpu.read_text() if cpu.exists() else platform.processor()
  features = sorted({x for x in model.splitlines() if x.startswith(("flags", "model"))})
  kind = hashlib.sha256("".join(features).encode()).hexdigest()[:8]
  folder = pathlib.Path(home, "vpo-jax-tests", f"jax-{jaxlib.__version__}-{kind}")
  folder.mkdir(parents=True, exist_ok=True)
  for path in folder.iterdir():
    if time.time() - path.stat().st_mtime > 30 * 24 * 3600:
      path.unlink(missing_ok=True)
  return str(folder)


# Subprocesses inherit these.
os.environ |= {
  "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
  + " --xla_force_host_platform_device_count=8",
  "HF_HUB_OFFLINE": "1",
  "JAX_COMPILATION_CACHE_DIR": _compilation_cache(),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
  # A type or a rank is promoted only where the code says so.
  "JAX_NUMPY_DTYPE_PROMOTION": "strict",
  "JAX_NUMPY_RANK_PROMOTION": "raise",
}
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # "cuda,cpu" tries a GPU

import pytest  # noqa: E402

# Folders whose tests take longest: begun first, so that no worker waits for them.
_LONG = ("train", "distributed", "feedback", "sample", "plan", "bench")


def pytest_collection_modifyitems(items):
  def rank(item):
    folder = item.path.parent.name
    return _LONG.index(folder) if folder in _LONG else len(_LONG)

  items.sort(key=rank)


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
  """Data cards have empty pictures, except in their own tests: drawing takes long."""
  if request.path.name != "test_card.py":
    monkeypatch.setattr(
      "vpo_jax.describe.page.histogram", lambda path, *_: path.touch()
    )


@pytest.fixture(scope="session")
def smollm2():
  """The directory of the embedded default model."""
  from vpo_jax.decoder import source

  return source.resolve(source.SMOLLM2)


@pytest.fixture(scope="session")
def tiny_model(smollm2, tmp_path_factory):
  """The directory of a random two-layer Llama with a small vocabulary.

  Its tokenizer is SmolLM2's cut down to the first 1,024 tokens: special tokens, bytes,
  and the merges that were learned first. The chat template is SmolLM2's.
  """
  import shutil

  import torch
  import transformers

  from vpo_jax.decoder import directory

  folder = tmp_path_factory.mktemp("tiny_model")
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=1024,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    initializer_range=0.3,  # far from uniform, so that greedy tokens are no ties
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
  )
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  for name in directory.COMPANIONS:
    if (smollm2 / name).exists():
      shutil.copy(smollm2 / name, folder / name)
  tokenizer = json.loads((smollm2 / "tokenizer.json").read_text())
  bpe = tokenizer["model"]
  bpe["vocab"] = {token: i for token, i in bpe["vocab"].items() if i < 1024}
  bpe["merges"] = [pair for pair in bpe["merges"] if "".join(pair) in bpe["vocab"]]
  (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
  return folder
