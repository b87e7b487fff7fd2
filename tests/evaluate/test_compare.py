"""Systems are compared on the same queries, and the better one is seen to be."""

import importlib.util
import pathlib

import ml_collections
import pytest

from configs import evaluate as evaluate_config
from torch_bridge.miniature import queries, scorer, world
from vpo_jax import errors, files, records
from vpo_jax.evaluate import compare

_HERE = pathlib.Path(__file__).parent
CATEGORY = {"a": "general", "b": "safety", "c": "general"}


def write(workdir, system, rewards, blood=0.0, passed=True):
  """What a system's stages leave: a video each of the queries named."""
  folder = compare.folder(workdir, system)
  rows, judged, scored = [], [], []
  for query, category in CATEGORY.items():
    candidate = records.Candidate(0, f"{system} {query}", "stop", 3)
    rows.append(
      records.Candidates(query, f"text {query}", category, system, {}, (candidate,))
    )
    judged.append(
      records.Judged(query, query, query, 0, candidate.prompt, "", passed, None)
    )
  for query, reward in rewards.items():
    scored.append(
      records.Scored(
        query_id=query,
        query=f"text {query}",
        index=0,
        prompt=f"{system} {query}",
        video_id=f"{system}{query}",
        seed=0,
        reward=reward,
        signed=0.0,
        groups={"alignment": reward / 2, "physics": reward / 2},
        yes=(),
        scalars={"splatter": blood},
      )
    )
  records.write(folder / "sample" / "candidates.jsonl", rows)
  records.write(folder / "text_pairs" / "judged.jsonl", judged)
  records.write(folder / "video_pairs" / "scores.jsonl", scored)


def config_of(*systems):
  config = evaluate_config.get_config().compare
  config.systems, config.unsafe, config.draws = systems, ("splatter 0.03",), 200
  return config


def test_only_queries_that_all_have_a_video_of_count(tmp_path):
  write(tmp_path, "one", {"a": 1.0, "b": 2.0, "c": 9.0}, blood=0.1, passed=False)
  write(tmp_path, "two", {"a": 2.0, "b": 4.0})
  counts = compare.run(config_of("one", "two"), tmp_path)
  assert counts == {"queries": 2, "dropped": 1}
  found = files.read_json(tmp_path / "evaluate" / "results.json")
  one, two = found["systems"]["one"], found["systems"]["two"]
  assert (one["reward"], two["reward"]) == (1.5, 3.0)
  assert two["groups"] == {"alignment": 1.5, "physics": 1.5}
  assert (one["aligned"], two["aligned"]) == (0.0, 1.0)
  assert (one["unsafe_videos"], two["unsafe_videos"]) == (1.0, 0.0)
  (difference,) = found["differences"]
  assert difference["mean"] == 1.5
  assert (difference["low"], difference["high"]) == (1.0, 2.0)
  assert [difference[k] for k in ("wins", "ties", "losses")] == [2, 0, 0]
  page = (tmp_path / "evaluate" / "README.md").read_text()
  assert "| two | 1.50 | 1.50 | 3.00 |" in page
  assert "| one | 0.0 % | 100.0 % |" in page


def test_nothing_in_common_and_wrong_limits_are_one_line(tmp_path):
  write(tmp_path, "one", {"a": 1.0})
  write(tmp_path, "two", {"b": 1.0})
  with pytest.raises(errors.UserError, match="no query that all systems"):
    compare.run(config_of("one", "two"), tmp_path)
  with pytest.raises(errors.UserError, match="two or more systems"):
    compare.run(config_of("one"), tmp_path)
  config = config_of("one", "two")
  config.unsafe = ("splatter",)
  with pytest.raises(errors.UserError, match="wants rows such as"):
    compare.run(config, tmp_path)


@pytest.fixture
def launch():
  path = _HERE.parents[1] / "launch" / "evaluate.py"
  spec = importlib.util.spec_from_file_location("launch_evaluate", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def miniature(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The miniature's teacher, judge and reward, and the oracle for a video model."""
  for teacher in (config.build_sft.teacher, config.text_pairs.teacher):
    teacher.base_url = "offline"
    teacher.offline.rules = "torch_bridge.miniature.teacher"
  video = config.video_pairs
  video.renderer.update(preset="miniature", name="oracle", model="oracle", batch=16)
  video.scorer.update(name="miniature", questions=str(scorer.QUESTIONS))
  config.compare.unsafe = ("splatter 0.03", "fire 0.06")
  config.compare.draws = 500
  return config


def test_prompts_in_the_models_words_beat_queries_in_others(
  launch, tmp_path, monkeypatch
):
  """Every part but the video model is the miniature's own."""
  monkeypatch.setenv("PYTHONPATH", str(_HERE))
  known = {word for values in world.ATTRIBUTES.values() for word in values}
  asked = [
    query.text
    for query in queries.draw(3, 300)
    if not known & set(query.text.split()) and len(query.wanted) > 2
  ]
  (tmp_path / "queries.txt").write_text("\n".join(asked[:40]))
  config = miniature(evaluate_config.get_config())
  config.queries = str(tmp_path / "queries.txt")
  config.systems = ("original=query", "few_shot=teacher")
  launch.evaluate(config, str(tmp_path))
  found = files.read_json(tmp_path / "evaluate" / "results.json")
  assert found["queries"] == 40
  (difference,) = found["differences"]
  assert difference["low"] > 0
  original, few_shot = (found["systems"][name] for name in ("original", "few_shot"))
  assert few_shot["groups"]["alignment"] > original["groups"]["alignment"]
  assert original["aligned"] < 0.2 < few_shot["aligned"] < 0.9
