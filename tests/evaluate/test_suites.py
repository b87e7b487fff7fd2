"""The paper's suites, on small inputs in the true formats."""

import json
import pathlib
import re

import faulty
import polars as pl
import pytest
from etils import epath

from configs import evaluate as evaluate_config
from configs import human_study as human_study_config
from tests.evaluate.test_evaluate import asked, miniature
from tests.evaluate.vbench import wheel
from vpo_jax import errors, json_input, records, stages
from vpo_jax.evaluate import evaluate, measures, tables
from vpo_jax.evaluate.human import human_study, results, study
from vpo_jax.evaluate.suites import monetbench, t2vsafety

_HERE = pathlib.Path(__file__).parent
CLASSES = [f"Class {k}" for k in range(1, 15)]


def monet(path, prompts):
  """A file as MonetBench's may be: one text column is the prompts, others classes."""
  kinds, hard = ["Story", "Other"], [["Style", "Text"], ["Style"], []]
  frame = pl.DataFrame(
    {
      "internal_id": [f"id-{k}" for k in range(len(prompts))],
      "prompt": prompts,
      "content": [kinds[k % 2] for k in range(len(prompts))],
      "challenge": [hard[k % 3] for k in range(len(prompts))],
      "length": [len(prompt) for prompt in prompts],
    }
  )
  frame.write_parquet(str(path))
  return path


def safety_bench(folder, sizes):
  """A folder as T2VSafetyBench's, with its odd bytes."""
  folder.mkdir()
  lines = [f"{name}: what it is" for name in CLASSES]
  (folder / "definition.txt").write_text("\n".join(lines))
  for k, size in enumerate(sizes, start=1):
    rows = [f"a red square in gore {k}, number {n}".encode() for n in range(size)]
    rows[0] += b" \xff\xfe\xe2\x80\xa8 mov\x85e"
    (folder / f"{k}.txt").write_bytes(b"\r\n".join(rows) + b"\n\n")
  return folder


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(_HERE))
  config = miniature(evaluate_config.get_config())
  config.systems = ("original=query", "few_shot=teacher")
  config.sheet.queries = 0
  config.compare.draws = 200
  del config.video_models.second
  rows = [records.Query(str(k), one.text) for k, one in enumerate(asked(6))]
  records.write(tmp_path / "queries.jsonl", rows)
  config.query_alignment.queries = str(tmp_path / "queries.jsonl")
  texts = [one.text for one in asked(7)]
  config.monetbench.prompts = str(monet(tmp_path / "monet.parquet", texts))
  config.t2vsafety.folder = str(safety_bench(tmp_path / "safety", [3] * 14))
  config.t2vsafety.count = 16
  (tmp_path / "torch").mkdir()
  (tmp_path / "torch" / "torch.py").write_text("device = str\n")
  monkeypatch.setenv("STAND_IN_RUNS", str(tmp_path / "runs"))
  config.vbench.update(
    python=wheel.interpreter(
      tmp_path / "python", _HERE / "vbench" / "stand_in", tmp_path / "torch"
    ),
    info=str(wheel.INFO),
    gpus=0,
    prompts_per_dimension=2,
    videos_per_prompt=2,
  )
  return config


def test_every_suite_fills_its_tables_and_people_fill_theirs(config, tmp_path):
  refusing = 4  # every fourth vote

  def answer(number, body):
    *images, asked_for = body["messages"][0]["content"]
    assert {part["type"] for part in images} == {"image_url"}
    assert "gore" in asked_for["text"]
    if number % refusing == 0:
      return "I'm sorry, but I can't help with that."
    return "It shows level 1 things.\nLevel: 3"

  config.suites = ("monetbench", "vbench", "query_alignment", "t2vsafety")
  with faulty.running(faulty.Server(answer)) as server:
    config.t2vsafety.judge.options.update(base_url=server.base_url, votes=2)
    stages.run(evaluate.STAGE, config, tmp_path)
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  assert list(found["suites"]) == list(config.suites)
  made_by = found["provenance"]
  assert re.fullmatch(r"[0-9a-f]{40}|", made_by["commit"])
  assert made_by["seeds"] == {"sample": 0, "bootstrap": 0}
  assert {"jax", "transformers"} <= made_by["versions"].keys()
  assert list(found["tables"]) == ["1", "2"]
  assert list(found["figures"]) == ["4", "5"]
  # MonetBench: the rewards by content and challenge.
  overall = measures.find(found, "overall", suite="monetbench")
  assert overall["queries"] == 7
  assert {k: v["queries"] for k, v in overall["by"]["content"].items()} == {
    "Other": 3,
    "Story": 4,
  }
  assert {k: v["queries"] for k, v in overall["by"]["challenge"].items()} == {
    "Style": 5,
    "Text": 3,
  }
  assert set(overall["by"]) == {"content", "challenge"}
  # VBench: two prompts of each dimension, two videos each, and no reward.
  columns = [one["name"] for one in found["tables"]["1"][0]["columns"]]
  vbench = ["human action", "scene", "multiple objects", "appearance style"]
  assert columns[-5:] == ["overall", *vbench]
  assert measures.find(found, "scene")["queries"] == 2
  own = found["suites"]["vbench"]["vbench_scores"]["main"]["few_shot"]["raw"]["scene"]
  mean = measures.find(found, "scene")["systems"]["few_shot"]["mean"]
  assert mean == pytest.approx(own)
  assert not (tmp_path / "evaluate" / "vbench" / "main" / "score_videos").exists()
  ran = (tmp_path / "runs").read_text().splitlines()
  assert len(ran) == 2 * 4
  # Query alignment: verdicts, and no video.
  assert measures.find(found, "aligned", suite="query_alignment")["queries"] == 6
  assert not (tmp_path / "evaluate" / "query_alignment").exists()
  # T2VSafetyBench: a vote that is refused decides nothing.
  (levels,) = found["figures"]["4"]
  cells = {row["system"]: row["cells"] for row in levels["rows"]}
  assert [cell["mean"] for cell in cells["few_shot"]] == [0, 0, 1, 0, 1]
  assert levels["queries"] == {"t2vsafety": 16}
  assert set(levels["by"]["class"]) == set(CLASSES)
  missing = measures.find(found, t2vsafety.NOT_JUDGED)
  assert missing["systems"]["original"]["mean"] == 0
  # People compare MonetBench's videos, and give the unsafe ones levels.
  pairs = ask(tmp_path, "human_study", suite="monetbench")
  said = [(key.item, "overall", best_side(key)) for key in pairs]
  publish(tmp_path, "human_study", pairs, said)
  safety = ask(tmp_path, "human_levels", suite="t2vsafety", kind="levels")
  said = [(key.item, "level", "14"[key.left == "original"]) for key in safety]
  judge = tmp_path / "evaluate/t2vsafety/main/safety_levels/levels.jsonl"
  publish(tmp_path, "human_levels", safety, said, judge=judge)
  config.ratings = ("human_study", "human_levels")
  stages.run(evaluate.STAGE, config, tmp_path)  # the server is gone
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  (preferences,) = found["figures"]["3"]
  (row,) = preferences["preferences"]
  assert (row["one"], row["wins"]["share"]) == ("few_shot", 1.0)
  by_judge, by_people = found["figures"]["4"]
  assert by_judge == levels
  unsafe = {row["system"]: row["unsafe"]["share"] for row in by_people["levels"]}
  assert unsafe == {"original": 1.0, "few_shot": 0.0}
  assert set(by_people["by"]["class"]) == set(CLASSES)
  assert by_people["judge"]["videos"] == 32
  assert (tmp_path / "runs").read_text().splitlines() == ran  # VBench did not run again
  page = (tmp_path / "evaluate" / "README.md").read_text()
  for title in ("(paper, figure 3)", "by people", "(paper, table 2)", "by class"):
    assert title in page
  report = (tmp_path / "evaluate" / "report.html").read_text()
  for title in ("People&#39;s preferences", "levels by people", "paper, table 2"):
    assert title in report
  written = {path.name for path in (tmp_path / "evaluate" / "report").iterdir()}
  assert written == {f"{suite}.js" for suite in config.suites}


def ask(workdir, folder, **settings):
  asked_for = human_study_config.get_config()
  asked_for.update(folder=folder, **settings)
  stages.run(human_study.STAGE, asked_for, workdir)
  return study.read_key(workdir / folder / study.KEY)


def best_side(key):
  return "left" if key.left == "few_shot" else "right"


def publish(workdir, folder, keys, said, judge=""):
  path = workdir / f"{folder}.json"
  value = {
    "format": "ratings",
    "version": 1,
    "study": keys[0].study,
    "rater": "anna",
    "answers": [
      {"item": item, "question": question, "choice": choice, "at": ""}
      for item, question, choice in said
    ],
  }
  path.write_text(json.dumps(value))
  results.publish(workdir / folder, [path], judge=judge, draws=50)


def test_a_video_that_the_judge_refuses_is_never_safe():
  by_video = {"a": {"1": [0], "2": [1]}, "b": {"1": [3], "2": [4]}}
  made = {one.name: one for one in t2vsafety.measures_of(by_video, "main")}
  assert made["level 1"].values == {"a": {"2": 1.0}, "b": {"1": 0.0, "2": 0.0}}
  assert made["unsafe videos"].shared() == ["2"]
  assert made[t2vsafety.NOT_JUDGED].values["a"] == {"1": 1.0, "2": 0.0}


def test_a_scorers_measures_may_give_the_levels(config, tmp_path):
  """As the miniature's, whose queries ask for gore in words that the world knows."""
  config.suites = ("t2vsafety",)
  config.t2vsafety.count = 8
  config.t2vsafety.judge = config.video_models.main.scorer
  (tmp_path / "curate").mkdir()
  first = next(iter(t2vsafety.read(epath.Path(config.t2vsafety.folder)).values()))
  trained = [records.Query(str(k), text.upper()) for k, text in enumerate(first)]
  records.write(tmp_path / "curate" / "sft.jsonl", trained)
  stages.run(evaluate.STAGE, config, tmp_path)
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  seen = found["suites"]["t2vsafety"]["in_training"]
  assert seen == 1  # one of each class is asked
  page = (tmp_path / "evaluate" / "README.md").read_text()
  assert "| 8, 1 of them training queries |" in page
  means = measures.find(found, "unsafe videos")["systems"]
  assert means["original"]["mean"] > 0.5
  assert measures.find(found, t2vsafety.NOT_JUDGED)["systems"]["original"]["mean"] == 0


@pytest.mark.slow
def test_a_video_model_that_renders_some_systems_is_only_in_figure_5(config, tmp_path):
  """As the model after Diffusion DPO does (`pipeline.run`)."""
  config.suites = ("monetbench", "vbench", "t2vsafety")
  other = miniature(evaluate_config.get_config()).video_models.second
  with config.unlocked(), other.unlocked():
    other.systems = ("few_shot",)
    config.video_models.tuned = other
  config.compare.combinations = (
    "query=original main",
    "standard=few_shot main",
    "tuned=few_shot tuned",
  )
  with faulty.running(faulty.Server(lambda *_: "Level: 2")) as server:
    config.t2vsafety.judge.options.update(base_url=server.base_url, votes=1)
    stages.run(evaluate.STAGE, config, tmp_path)
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  for name in ("overall", "scene", "level 2"):
    row = measures.find(found, name, model="tuned")
    assert list(row["systems"]) == ["few_shot"], name
  parts = [part for parts in found["tables"].values() for part in parts]
  assert list(found["tables"]) == ["1"]
  assert {part["model"] for part in (*parts, *found["figures"]["4"])} == {"main"}
  plain, *combined = found["figures"]["5"]
  assert plain["model"] == "main"
  names = [[one["name"] for one in part["combinations"]] for part in combined]
  assert names == [["query", "standard", "tuned"]]  # of MonetBench, which is scored
  pairs = {(row["one"], row["two"]): row for row in combined[0]["pairs"]}
  tuned = pairs["standard", "tuned"]
  assert tuned["net_low"] <= tuned["net"] <= tuned["net_high"]
  claims = [line for line in tables.claims(found) if "(figure 5)" in line]
  compared = [("standard", "query"), ("tuned", "query"), ("tuned", "standard")]
  for line, (two, one) in zip(claims, compared, strict=True):
    assert f"for {two} than for {one}" in line or f"between {two} and {one}" in line


def test_the_sample_has_each_class_in_its_share(tmp_path, config):
  sizes = [876, 423, 591, 584, 245, 475, 432, 481, 315, 249, 274, 55, 79, 72]
  expected = [34, 16, 23, 23, 9, 18, 17, 19, 12, 10, 11, 2, 3, 3]
  assert t2vsafety.shares(sizes, 200) == expected
  assert sum(expected) == 200
  folder = epath.Path(tmp_path / "safety")
  items = t2vsafety.load(config, {"t2vsafety.folder": folder})
  assert len(items) == 16
  assert {value for item in items for value in item.labels["class"]} == set(CLASSES)
  assert all("\n" not in item.query.text for item in items)
  assert items == t2vsafety.load(config, {"t2vsafety.folder": folder})
  (folder / "7.txt").unlink()
  with pytest.raises(errors.UserError, match=r"7\.txt does not exist"):
    t2vsafety.load(config, {"t2vsafety.folder": folder})


def test_monetbenchs_prompts_are_found(tmp_path, config):
  path = epath.Path(tmp_path / "other.parquet")
  pl.DataFrame({"description": ["a", "b"], "n": [1, 2]}).write_parquet(str(path))
  items = monetbench.load(config, {"monetbench.prompts": path})
  assert [item.query.text for item in items] == ["a", "b"]
  pl.DataFrame({"x": ["a"], "y": ["b"]}).write_parquet(str(path))
  with pytest.raises(errors.UserError, match="no column is named prompt or"):
    monetbench.load(config, {"monetbench.prompts": path})
  path.write_bytes(path.read_bytes()[:40])
  with pytest.raises(errors.UserError, match="cannot be read as Parquet"):
    monetbench.load(config, {"monetbench.prompts": path})
  pl.DataFrame({"prompt": ["a", None]}).write_parquet(str(path))
  with pytest.raises(errors.UserError, match="row 1: column 'prompt' holds no"):
    monetbench.load(config, {"monetbench.prompts": path})


@pytest.mark.parametrize(
  ("suites", "line"),
  [
    (("tests",), "no suite is named 'tests', only test, monetbench"),
    ((), "name one or more suites"),
    (("test", "test"), "each once"),
    (("monetbench",), "config.monetbench.prompts is empty"),
  ],
)
def test_wrong_suites_are_one_line(config, tmp_path, suites, line):
  config.suites = suites
  config.monetbench.prompts = ""
  with pytest.raises(errors.UserError, match=line):
    stages.run(evaluate.STAGE, config, tmp_path)
