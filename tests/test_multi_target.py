"""Policies for several video models: what each stage reads, and the table."""

import json

import ml_collections
import pytest

from configs import multi_target as multi_target_config
from vpo_jax import errors, files, multi_target, records, stages
from vpo_jax.feedback import merge_pairs, merge_targets


@pytest.fixture
def config():
  return multi_target_config.get_config("miniature")


def _results():
  """Every system's reward is ten times its place, and one more on the second model."""
  names = ["sft", "main_for_main", "second_for_second", "both_for_main"]
  names.append("both_for_second")
  measures = [{"name": "aligned", "model": "", "systems": {}, "differences": []}]
  measures[0]["systems"] = {name: {"mean": 0.5} for name in names}
  for more, model in enumerate(("main", "second")):
    rewards = {name: {"mean": 10.0 * i + more} for i, name in enumerate(names)}
    differences = [
      # The interval is one below and two above.
      {
        "one": one,
        "two": two,
        "mean": (d := 10.0 * (j - i)),
        "low": d - 1,
        "high": d + 2,
      }
      for i, one in enumerate(names)
      for j, two in enumerate(names)
      if i < j
    ]
    measures.append({"name": "overall", "model": model, "systems": rewards})
    measures[-1]["differences"] = differences
  return {"suites": {"test": {"measures": measures}}}


@pytest.fixture
def ran(monkeypatch, tmp_path):
  """Replaces the stages' work; returns the configs by folder."""
  steps = {}

  def run(stage, config, workdir, root=None, *, own_process=False):
    place = (workdir / stage.folder_for(config)).relative_to(tmp_path)
    assert str(place) not in steps
    steps[str(place)] = config.copy_and_resolve_references()
    if stage.name == "evaluate":
      files.write_json(workdir / "evaluate" / "results.json", _results())
    return {}

  monkeypatch.setattr(stages, "run", run)
  return steps


def test_each_target_is_sampled_with_its_notes_and_rendered_by_its_model(
  config, ran, tmp_path
):
  multi_target.run(config, tmp_path)
  sft = str(tmp_path / "train_sft" / "model")
  for name in ("main", "second"):
    sample = ran[f"targets/{name}/sample"]
    assert sample.target.endswith(f"miniature/targets/{name}.json")
    assert (sample.model, sample.queries) == (sft, str(tmp_path / "curate/dpo.jsonl"))
    assert ran[f"targets/{name}/text_pairs"].target == sample.target
    preset = ran[f"targets/{name}/score_videos"].renderer.preset
    assert preset.endswith("second_preset.json") == (name == "second")


def test_a_policy_is_trained_on_the_rows_of_its_targets(config, ran, tmp_path):
  multi_target.run(config, tmp_path)
  folder = tmp_path / "targets"
  rows = [str(folder / name / "merge_pairs") for name in ("main", "second")]
  merged = {
    name: list(ran[f"targets/policies/{name}/merge_targets"].folders)
    for name in ("main", "second", "both")
  }
  assert merged == {"main": rows[:1], "second": rows[1:], "both": rows}
  trained = ran["targets/policies/both/train_dpo"]
  assert trained.train == str(folder / "policies/both/merge_targets/train.json")
  assert trained.model == str(tmp_path / "train_sft" / "model")


def test_policies_get_the_notes_of_the_model_they_are_used_on(config, ran, tmp_path):
  cells = multi_target.run(config, tmp_path)
  evaluated = ran["targets/evaluate"]
  models = {name: list(m.systems) for name, m in evaluated.video_models.items()}
  singles = ["sft", "main_for_main", "second_for_second"]
  assert models == {
    "main": [*singles, "both_for_main"],
    "second": [*singles, "both_for_second"],
  }
  assert "both_for_second=" in evaluated.systems[-1]
  assert evaluated.queries == str(tmp_path / "curate/test.jsonl")
  assert evaluated.systems[-1].endswith("for=" + ran["targets/second/sample"].target)
  table = {(cell.policy, cell.video_model): cell for cell in cells}
  assert table["both", "second"].reward == 41.0
  assert table["main", "second"].reward == 11.0
  own = table["second", "second"]
  assert (own.gain, own.low, own.high) == (20.0, 19.0, 22.0)
  assert table["sft", "main"].gain is None
  written = json.loads((tmp_path / "targets/transfer.json").read_text())
  assert len(written) == len(cells) == 8


def test_an_interval_of_the_opposite_difference_is_turned_around():
  results = _results()
  for row in results["suites"]["test"]["measures"][1]["differences"]:
    row |= {"one": row["two"], "two": row["one"]}
  cells = multi_target.transfer(results, ["main"], {"main": ("main",)})
  assert (cells[1].gain, cells[1].low, cells[1].high) == (-10.0, -12.0, -9.0)


def test_rows_keep_their_notes_and_the_instruction_has_a_place_for_others(tmp_path):
  for name in ("a", "b"):
    pair = records.Pair(name, f"query of {name}", "good", "bad", "text")
    row = merge_pairs.row(pair, f"Write for {name}: {{query}}")
    for part in ("train", "heldout"):
      files.write_json(tmp_path / name / f"{part}.json", [row])
  model = tmp_path / "model"
  model.mkdir()
  (model / "instruction.txt").write_text("Write{notes}: {query}")
  folders = (str(tmp_path / "a"), str(tmp_path / "b"))
  config = ml_collections.ConfigDict({"folders": folders, "model": str(model)})
  counts = stages.run(merge_targets.STAGE, config, tmp_path)
  assert counts == {"train": 2, "heldout": 2}
  rows = json.loads((tmp_path / "merge_targets" / "train.json").read_text())
  turns = [row["messages"][0]["content"] for row in rows]
  assert turns == ["Write for a: query of a", "Write for b: query of b"]
  kept = tmp_path / "merge_targets" / "instruction.txt"
  assert kept.read_text() == "Write{notes}: {query}"


@pytest.mark.parametrize(
  ("key", "value", "line"),
  [
    ("policies", ("main",), "must be NAME=TARGET"),
    ("policies", ("sft=main",), "must be NAME=TARGET"),
    ("policies", ("a=main", "a=second"), "each NAME once"),
    ("policies", ("a=third",), "config.targets has no 'third'"),
    ("policies", (), "name a policy"),
    ("targets.second", "", "config.targets.second is empty"),
    ("targets.second", "no-such", "target 'no-such'"),
    ("targets.third", "miniature", "video_models has no third"),
  ],
)
def test_a_wrong_target_or_policy_is_one_line(config, tmp_path, key, value, line):
  with config.unlocked(), config.targets.unlocked():
    config.update_from_flattened_dict({key: value})
  with pytest.raises(errors.UserError, match=line):
    multi_target.run(config, tmp_path)


def test_targets_with_the_same_notes_are_one_line(config, tmp_path):
  config.targets.second = config.targets.main
  with pytest.raises(errors.UserError, match="main and second have the same notes"):
    multi_target.run(config, tmp_path)
