"""Several real processes end where one ends, and leave together."""

import json

import jax
import numpy as np
import pytest

from vpo_jax.llama import config as llama_config
from vpo_jax.llama import weights


def metrics(workdir, kind, name="loss"):
  lines = (workdir / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  return {row["step"]: row[name] for row in map(json.loads, lines) if name in row}


def trained(workdir, kind):
  folder = workdir / f"train_{kind}" / "model"
  return weights.load(folder, llama_config.read(folder))


def assert_ends_as(ours, theirs, kind):
  for name in ("loss", "eval/loss"):
    mine, one = metrics(ours, kind, name), metrics(theirs, kind, name)
    assert mine.keys() == one.keys()
    np.testing.assert_allclose(list(mine.values()), list(one.values()), atol=1e-5)
  gaps = jax.tree.map(
    lambda a, b: float(abs(a - b).max()), trained(ours, kind), trained(theirs, kind)
  )
  # Adam divides by the gradient's size: where that is next to nothing, its rounding
  # shows. A step moves a weight by 1e-3.
  assert max(jax.tree.leaves(gaps)) < 1e-4


@pytest.mark.parametrize(
  ("kind", "count", "mesh"),
  [
    ("sft", 2, {"data": 2}),
    ("dpo", 2, {"fsdp": 2}),
    pytest.param("sft", 4, {"fsdp": 4}, marks=pytest.mark.slow),
    pytest.param("dpo", 4, {"data": 2, "tensor": 2}, marks=pytest.mark.slow),
  ],
)
def test_processes_end_where_one_ends(tmp_path, launch, make_config, kind, count, mesh):
  workdir = tmp_path / "work"
  run = launch(f"train_{kind}.py", make_config(kind, mesh=mesh), workdir, count, 1)
  assert run.wait() == [0] * count, run.said(0)
  one = launch(f"train_{kind}.py", make_config(kind), tmp_path / "one", 1, 1)
  assert one.wait() == [0]
  assert_ends_as(workdir, tmp_path / "one", kind)
  # Each lays out its own part: together all of it, and no part twice.
  micros = list(zip(*(run.rows(index) for index in range(count)), strict=True))
  shares = count // mesh.get("tensor", 1)
  for micro in micros:
    parts = {tuple(part) for part in micro}
    assert len({i for part in parts for i in part}) == sum(map(len, parts))
    assert len(parts) <= shares
  assert sorted(laid(run, count, shares)) == sorted(laid(one, 1, 1))
  # The first speaks; the others have nothing to say.
  assert "train" in run.said(0)
  assert "train" not in run.said(count - 1)


def laid(run, count, shares):
  """Every example that a run laid out, as often as it did, tensor's copies apart."""
  return [
    i for p in range(0, count, count // shares) for micro in run.rows(p) for i in micro
  ]
