"""The stage fits a predictor to scored groups and says how well it predicts."""

import dataclasses
import json

import numpy as np
import pytest

from tests.predict import conftest
from vpo_jax import errors, records, stages
from vpo_jax.decoder import sharding
from vpo_jax.predict import predictor, train_predictor
from vpo_jax.sample import lm


def test_it_learns_which_words_are_rewarded(trained, loaded, policy):
  counts = stages.finished_counts(trained / "train_predictor")
  assert (counts["queries"], counts["prompts"], counts["set_aside"]) == (80, 320, 0)
  assert counts["pair_accuracy"] > 0.7
  assert counts["r2"] > 0.4
  assert 0 < counts["gain"] <= counts["best_gain"]
  assert 0.7 < counts["coverage_80"] < 0.9
  report = json.loads((trained / "train_predictor" / "report.json").read_text())
  assert report["margin"] == 0.5
  assert set(report["coverage"]) == {"50%", "80%", "95%"}
  assert loaded.accuracy == pytest.approx(report["pair_accuracy"])
  prompts = ["a slow slow boat", "a boat past", "a red red boat"]
  [(mean_K, deviation_K)] = loaded.predict(policy, ["a new boat"], [prompts])
  assert np.argsort(mean_K).tolist() == [0, 1, 2]
  assert (deviation_K >= loaded.head.noise).all()


def test_predictions_are_gains_over_the_mean_of_the_prompts(loaded, policy):
  prompts = ["a slow boat", "a red boat", "", "a boat"]
  [(mean_K, deviation_K)] = loaded.predict(policy, ["a boat"], [prompts])
  assert np.isnan(mean_K).tolist() == [False, False, True, False]
  assert np.isnan(deviation_K[2])
  assert abs(np.nanmean(mean_K)) < 1e-5


@pytest.mark.parametrize(
  ("changed", "name"),
  [
    ({"precision": "bfloat16"}, "precision .*: float32, not bfloat16"),
    ({"instruction": "Rewrite {query} well."}, "instruction"),
  ],
)
def test_another_reader_is_refused(tiny_model, loaded, tmp_path, changed, name):
  if "instruction" in changed:
    (tmp_path / "template.txt").write_text(changed["instruction"])
    changed = {"instruction": str(tmp_path / "template.txt")}
  with pytest.raises(errors.UserError, match=f"trained with other {name}"):
    loaded.check(lm.load(str(tiny_model), **changed))


def test_other_weights_are_refused(tiny_model, loaded, policy):
  loaded.check(policy)
  mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  loaded.check(lm.load(str(tiny_model), mesh=mesh))  # the same on any devices
  params = policy.params | {"norm": policy.params["norm"] * 1.001}
  with pytest.raises(errors.UserError, match=r"other weights than .*--config\.model="):
    loaded.check(dataclasses.replace(policy, params=params))


def test_too_few_scores_are_one_line(make_config, tmp_path):
  path = tmp_path / "groups" / "groups.jsonl"
  rows = conftest.write_groups(path, 21)
  alone = [dataclasses.replace(row, responses=row.responses[-2:]) for row in rows[:2]]
  records.write(path, [*alone, *rows[2:]])
  with pytest.raises(errors.UserError, match=r"groups\.jsonl: 19 queries .* least 20"):
    stages.run(train_predictor.STAGE, make_config(), tmp_path)


@pytest.mark.parametrize(("key", "value"), [("folds", 1), ("margin", -0.1)])
def test_values_without_meaning_are_refused(make_config, tmp_path, key, value):
  conftest.write_groups(tmp_path / "groups" / "groups.jsonl", 2)
  with pytest.raises(errors.UserError, match=f"config.{key}={value}"):
    stages.run(train_predictor.STAGE, make_config(**{key: value}), tmp_path)


def test_what_is_no_predictor_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="no such predictor"):
    predictor.load(tmp_path)
  (tmp_path / predictor.FILE).write_bytes(b"PK\x03\x04 cut off")
  with pytest.raises(errors.UserError, match="not a predictor"):
    predictor.load(tmp_path)
  np.savez(tmp_path / predictor.FILE, x=np.zeros(3))
  with pytest.raises(errors.UserError, match="not a predictor"):
    predictor.load(tmp_path / predictor.FILE)
