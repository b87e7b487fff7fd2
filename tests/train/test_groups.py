"""Training on groups: equal to DPO for groups of two, and the same on any mesh."""

import dataclasses
import json

import numpy as np
import pytest

from configs import train_groups as groups_config
from tests.train import conftest, runs
from vpo_jax import errors, records, stages, templates
from vpo_jax.data import examples as data_examples
from vpo_jax.train import dpo, groups

TEMPLATE = "Rewrite this query as a prompt. Query: {query} Prompt:"


def write_groups(folder, count, seed, sizes=(2, 6)):
  """Groups of different sizes, some responses without a reward."""
  rng = np.random.default_rng(seed)

  def text(low, high):
    return " ".join(rng.choice(conftest.WORDS, rng.integers(low, high)))

  rows = []
  for number in range(count):
    prompts = {text(4, 14) for _ in range(rng.integers(*sizes))} | {text(15, 16)}
    responses = [
      records.Response(k, prompt, None, None, float(rng.normal()), {}, {})
      for k, prompt in enumerate(sorted(prompts))
    ]
    rows.append(records.Group(f"{number}", text(1, 5), "general", "", tuple(responses)))
  records.write(folder, rows)
  return rows


@pytest.fixture
def make_groups(make_config, tmp_path):
  """`make_groups(mesh, **changes)`: the config of six steps."""
  folder = tmp_path / "rows"
  folder.mkdir()
  write_groups(folder / "train.jsonl", 20, seed=0)
  write_groups(folder / "heldout.jsonl", 6, seed=1)
  (folder / templates.INSTRUCTION).write_text(TEMPLATE)

  def make(mesh=None, **changes):
    config = make_config("dpo", mesh, peak_lr=1e-4)
    own = groups_config.get_config()
    config.update({key: own[key] for key in own if key not in config})
    config.update(
      loss=own.loss,
      train=str(folder / "train.jsonl"),
      heldout=str(folder / "heldout.jsonl"),
      micro_tokens=320,
    )
    config.update(**changes)
    return config

  return make


def metrics(workdir, name="loss"):
  rows = (workdir / "train_groups" / "metrics.jsonl").read_text().splitlines()
  return [row[name] for row in map(json.loads, rows) if name in row]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["plackett_luce", "dr_grpo", "kto"])
def test_a_mesh_gives_what_one_device_gives(make_groups, tmp_path, loss):
  for name, mesh in (("one", None), ("mixed", runs.MIXED)):
    stages.run(
      groups.STAGE, make_groups(mesh, loss=loss, shuffle=False), tmp_path / name
    )
  one, mixed = metrics(tmp_path / "one"), metrics(tmp_path / "mixed")
  assert len(one) == 6
  np.testing.assert_allclose(one, mixed, atol=1e-5)
  assert sum(one[3:]) < sum(one[:3]), "nothing is learned in the second epoch"


def test_groups_of_two_are_dpos_pairs(make_groups, make_config, tmp_path):
  folder = tmp_path / "two"
  folder.mkdir()
  rows = write_groups(folder / "train.jsonl", 20, seed=2, sizes=(1, 2))
  (folder / templates.INSTRUCTION).write_text(TEMPLATE)
  pairs = []
  for row in rows:
    low, high = sorted(row.responses, key=lambda one: one.reward)
    content = templates.fill(TEMPLATE, query=row.query)
    pairs.append(data_examples.preference_row(content, high.prompt, low.prompt))
  (folder / "train.json").write_text(json.dumps(pairs))
  ours = make_groups(train=str(folder / "train.jsonl"), shuffle=False)
  theirs = make_config("dpo", peak_lr=1e-4, train=str(folder / "train.json"))
  theirs.shuffle = False
  stages.run(groups.STAGE, ours, tmp_path)
  stages.run(dpo.STAGE, theirs, tmp_path)
  expected = list(runs.metrics(tmp_path, "dpo").values())
  np.testing.assert_allclose(metrics(tmp_path), expected, atol=1e-5)
  np.testing.assert_allclose(expected[0], np.log(2), atol=1e-5)


@pytest.mark.slow
def test_ktos_reference_point_is_that_of_the_batch(make_groups, tmp_path):
  """It does not depend on how a batch is split into micro-batches."""
  for name, tokens in (("one", 4096), ("several", 320)):
    config = make_groups(loss="kto", micro_tokens=tokens, shuffle=False)
    config.optimizer.peak_lr = 3e-3  # far from the reference, so that the KL counts
    stages.run(groups.STAGE, config, tmp_path / name)
  for key in ("loss", "kl", "eval/loss", "eval/kl"):
    one, several = (metrics(tmp_path / name, key) for name in ("one", "several"))
    np.testing.assert_allclose(one, several, rtol=2e-3, atol=1e-5)
  assert max(metrics(tmp_path / "one", "kl")) > 0
  np.testing.assert_allclose(metrics(tmp_path / "one")[0], 0.5, atol=1e-6)


def test_grpo_begins_without_a_loss(make_groups, tmp_path):
  """Advantages of a group sum to 0, and every ratio is 1."""
  config = make_groups(loss="dr_grpo", kl_weight=0.1, length=1, shuffle=False)
  config.optimizer.peak_lr = 0.0
  stages.run(groups.STAGE, config, tmp_path)
  np.testing.assert_allclose(metrics(tmp_path, "kl"), 0, atol=1e-6)
  assert not any(metrics(tmp_path, "clip_ratio"))


def test_groups_of_another_model_are_refused(make_groups, tmp_path):
  """By the policy gradients, whose ratios are to the model that wrote them."""
  config = make_groups(loss="grpo", epochs=1)
  path = tmp_path / "rows" / "train.jsonl"
  rows = records.read(path, records.Group)
  records.write(path, [dataclasses.replace(row, model="other") for row in [*rows]])
  with pytest.raises(errors.UserError, match="another model than"):
    stages.run(groups.STAGE, config, tmp_path)


def test_what_cannot_be_trained_is_set_aside(make_groups, tmp_path):
  config = make_groups(epochs=1, max_tokens=300)
  path = tmp_path / "rows" / "train.jsonl"
  rows = list(records.read(path, records.Group))
  same = [records.Response(k, p, None, None, 1.0, {}, {}) for k, p in enumerate("ab")]
  long = [
    records.Response(k, p * 300, None, None, float(k), {}, {})
    for k, p in enumerate(["a ", "b "])
  ]
  rows += [
    records.Group("same", "q", "general", "", tuple(same)),
    records.Group("long", "q", "general", "", tuple(long)),
  ]
  records.write(path, rows)
  stages.run(groups.STAGE, config, tmp_path)
  aside = (tmp_path / "train_groups" / "set_aside_train.jsonl").read_text()
  assert "its responses do not differ in reward" in aside
  assert "more than max_tokens=300" in aside
  records.write(path, rows[-2:-1])
  with pytest.raises(errors.UserError, match="no usable group; the first: its resp"):
    stages.run(groups.STAGE, config, tmp_path / "other")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"loss": "ppo"}, "one of plackett_luce, kto, grpo, dr_grpo"),
    ({"beta": 0.0}, "beta=0.0"),
    ({"threshold": "median"}, "threshold='median': must be mean or a number"),
    ({"undesirable_weight": 0.0}, "undesirable_weight=0.0"),
    ({"clip_high": -1.0}, "clip_high=-1.0"),
    ({"kl_weight": -1.0}, "kl_weight=-1.0"),
    ({"text_feedback": "maybe"}, "text_feedback='maybe'"),
  ],
)
def test_values_without_meaning_are_refused(make_groups, tmp_path, changes, message):
  with pytest.raises(errors.UserError, match=message):
    stages.run(groups.STAGE, make_groups(**changes), tmp_path)
