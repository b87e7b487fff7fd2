"""A tiny task, for tests of the whole training stage."""

import json
import math

import numpy as np
import pytest

from configs import dpo as dpo_config
from configs import sft as sft_config
from tests.train import runs
from vpo_jax import stages
from vpo_jax.data import examples as data_examples

SCHEDULE = "constant_with_warmup"
WORDS = ["a", "slow", "bright", "red", "small", "boat", "turns", "drifts", "past"]


def write_rows(path, kind, count, seed):
  rng = np.random.default_rng(seed)

  def text(low, high):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))

  rows = []
  for _ in range(count):
    content = f"Rewrite this query as a prompt. Query: {text(1, 5)} Prompt:"
    if kind == "sft":
      rows.append(data_examples.sft_row(content, text(4, 14)))
    else:
      rows.append(data_examples.preference_row(content, text(4, 14), text(4, 14)))
  path.write_text(json.dumps(rows))


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
  """Paths by (kind, split)."""
  folder = tmp_path_factory.mktemp("rows")
  paths = {}
  for kind in ("sft", "dpo"):
    for seed, (split, count) in enumerate({"train": 20, "heldout": 8}.items()):
      paths[kind, split] = folder / f"{kind}_{split}.json"
      write_rows(paths[kind, split], kind, count, seed)
  return paths


@pytest.fixture
def make_config(tiny_model, rows):
  """`make_config(kind, **changes)`: a run of six steps on one device."""

  def make(kind, mesh=None, peak_lr=1e-3, **changes):
    config = {"sft": sft_config, "dpo": dpo_config}[kind].get_config()
    config.update(
      model=str(tiny_model),
      train=str(rows[kind, "train"]),
      heldout=str(rows[kind, "heldout"]),
      batch_size=8,
      epochs=2,
      precision="float32",
      remat="none",
      micro_tokens=256,
      shapes=1,
      eval_every=3,
      checkpoint_every=2,
      check_packing=False,  # it has tests of its own, and takes two compilations
    )
    config.optimizer.update(peak_lr=peak_lr, schedule=SCHEDULE, warmup_ratio=0.0)
    sizes = {"data": 1, "fsdp": 1, "tensor": 1} | (mesh or {})
    used = 0 if -1 in sizes.values() else math.prod(sizes.values())
    config.mesh.update({"devices": used} | sizes)
    config.update(**changes)
    return config

  return make


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
  """Runs of both stages on one device, that others are compared with."""
  done = {}

  def get(kind, make_config, **changes):
    key = (kind, *changes.items())
    if key not in done:
      done[key] = tmp_path_factory.mktemp(f"unbroken_{kind}")
      stages.run(runs.STAGES[kind].STAGE, make_config(kind, **changes), done[key])
    return done[key]

  return get
