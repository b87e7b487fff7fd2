"""The packing check equals an independent computation, and finds broken packing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data import test_forest
from tests.train import runs
from vpo_jax import errors, stages
from vpo_jax.data import forest, plain_rows
from vpo_jax.decoder import lora, paths, sharding, table
from vpo_jax.train import (
  group_objective,
  objective,
  packing_check,
  pair_objective,
)
from vpo_jax.train import policy as policies

CONFIG = test_forest.CONFIG
ADAPTERS = lora.Lora(rank=4, alpha=8.0, targets=("q", "v", "down"))
OBJECTIVES = {
  "sft": objective.sft,
  "dpo": pair_objective.dpo(0.1),
  "kto": group_objective.Kto(0.1, 1.0, 1.0),
}


class First:
  """The first micro-batch of a small batch of pairs, and a random model."""

  def __init__(self, groups=1, budget=256):
    mesh = sharding.make_mesh(
      {"data": groups, "fsdp": 1, "tensor": 1}, jax.devices()[:groups]
    )
    self.placement = sharding.place(CONFIG, mesh)
    self.params = jax.device_put(
      table.init(jax.random.key(0), CONFIG), self.placement.params
    )
    self.examples = test_forest.make_examples(0, 12, branches=2)
    plan = test_forest.make_plan(self.examples, groups, budget)
    self.shape, self.micro = plan.shapes[0], plan.steps[0][0]
    self.policy = policies.Policy(CONFIG, rows=self.placement.batch)

  def batch(self):
    groups = self.placement.own_groups
    rewards = np.tile(np.float32([1, 0]), (len(self.examples), 1))
    packed = forest.build(
      self.examples, self.shape, self.micro, reward_XE=rewards, groups=groups
    )
    rows = plain_rows.build(self.examples, self.shape, self.micro, groups)
    return self.placement.shard_groups((packed, rows))

  def check(self, name="sft"):
    packed, rows = self.batch()
    return packing_check.training(
      self.policy,
      OBJECTIVES[name],
      self.placement,
      self.params,
      packed,
      rows,
      self.shape,
    )


@pytest.mark.parametrize(("groups", "budget"), [(1, 256), (1, 64), (2, 64)])
def test_plain_rows_equal_an_independent_computation(groups, budget):
  """A full softmax over rows of all responses, with their gradient."""
  first = First(groups, budget)
  packed, rows = first.batch()
  used = [i for trees in first.micro for indices in trees for i in indices]
  if budget == 64:
    assert rows.tokens_GCBW.shape[1] > 1, "several chunks"
  members = [first.examples[i] for i in used]
  scale = np.random.default_rng(1).normal(size=(len(used), 2)).astype(np.float32)

  def ours(params):
    logp_GP = packing_check.plain_logps(first.policy, params, rows)
    logp_GNE = objective.Responses.of(packed, logp_GP).logp_GNE
    parts = [logp_GNE[g, : sum(map(len, trees))] for g, trees in enumerate(first.micro)]
    logps = jnp.concatenate(parts)
    return jnp.sum(scale * logps), logps

  def theirs(params):
    logps = test_forest.plain_logps(params, members)
    return jnp.sum(scale * logps), logps

  found, expected = (
    jax.jit(jax.value_and_grad(loss, has_aux=True))(first.params)
    for loss in (ours, theirs)
  )
  np.testing.assert_allclose(found[0][1], expected[0][1], atol=1e-4)
  for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_forest_passes(name, capsys):
  found = First(groups=2).check(name)
  assert 0 < found.logp < 1e-4
  assert found.gradient is not None
  assert 0 < found.gradient < 1e-4
  assert "packing check, training" in capsys.readouterr().err


def test_gradients_of_adapters_are_compared():
  first = First()
  packed, rows = first.batch()
  mesh = first.placement.mesh
  shardings = sharding.params(CONFIG, mesh, ADAPTERS.declare(CONFIG))
  found = packing_check.training(
    first.policy,
    objective.sft,
    sharding.Placement(mesh, shardings),
    ADAPTERS.init(0, CONFIG, shardings),
    packed,
    rows,
    first.shape,
    ADAPTERS,
    first.params,
  )
  assert found.gradient is not None
  assert 0 < found.gradient < 1e-4


OF_FOREST = paths.of_forest


def other_branches(tree, branch, depth, stem):
  """A token sees the tree's other branches."""
  return OF_FOREST(tree, jnp.zeros_like(branch), depth, stem)


def other_trees(tree, branch, depth, stem):
  """A token sees the row's other trees."""
  return OF_FOREST(jnp.ones_like(tree), jnp.zeros_like(branch), depth, stem)


def not_itself(tree, branch, depth, stem):
  """A token does not see itself."""
  rows, stems = OF_FOREST(tree, branch, depth, stem)
  return rows.replace(query_depth_BT=rows.query_depth_BT - 1), stems


def no_stem(tree, branch, depth, stem):
  """No token of a row sees the stem."""
  return OF_FOREST(tree, branch, depth, jnp.zeros_like(stem))


@pytest.mark.parametrize("broken", [other_branches, other_trees, not_itself, no_stem])
def test_broken_paths_are_found(monkeypatch, broken):
  monkeypatch.setattr(paths, "of_forest", broken)
  with pytest.raises(errors.UserError, match="packing check, training"):
    First().check()


@pytest.mark.parametrize(
  ("kind", "mesh"),
  [
    ("sft", None),
    pytest.param("dpo", runs.MIXED, marks=pytest.mark.slow),
    pytest.param("sft", runs.MIXED, marks=pytest.mark.slow),
    pytest.param("dpo", None, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_a_run_keeps_what_it_found(tmp_path, make_config, kind, mesh):
  config = make_config(kind, mesh=mesh, check_packing=True, epochs=1)
  stages.run(runs.STAGES[kind].STAGE, config, tmp_path)
  manifest = json.loads((tmp_path / f"train_{kind}" / "manifest.json").read_text())
  counts = manifest["counts"]
  for name in ("logp", "gradient"):
    assert 0 <= counts[f"packing_{name}_difference"] < 1e-4
  reference = counts["packing_reference_difference"]
  assert reference is None if kind == "sft" else 0 <= reference < 1e-4


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_run_with_a_broken_mask_stops(tmp_path, make_config, monkeypatch, kind):
  """With DPO the reference pass stops first, and stores nothing."""
  monkeypatch.setattr(paths, "of_forest", other_trees)
  with pytest.raises(errors.UserError, match="packing check"):
    stages.run(runs.STAGES[kind].STAGE, make_config(kind, check_packing=True), tmp_path)
  folder = tmp_path / f"train_{kind}"
  assert not list(folder.glob("reference_*"))
  assert not list((folder / "checkpoints").glob("*"))


def test_the_check_can_be_switched_off(tmp_path, make_config, monkeypatch):
  monkeypatch.setattr(paths, "of_forest", other_trees)
  config = make_config("sft", check_packing=False, epochs=1)
  counts = stages.run(runs.STAGES["sft"].STAGE, config, tmp_path)
  assert "packing_logp_difference" not in counts
