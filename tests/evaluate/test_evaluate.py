"""Systems are compared on the same queries, and the better one is seen to be."""

import json
import pathlib
import shutil

import faulty
import ml_collections
import pytest

from configs import evaluate as evaluate_config
from configs import human_study as human_study_config
from configs import miniature as miniature_config
from configs import score_videos as score_videos_config
from torch_bridge.miniature import queries, world
from vpo_jax import errors, json_input, records, stages, templates
from vpo_jax.evaluate import alignment, evaluate, measures, systems
from vpo_jax.evaluate.human import human_study

_HERE = pathlib.Path(__file__).parent


def miniature(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The miniature's teacher, judge and reward, and the oracle for a video model."""
  for teacher in (config.build_sft.teacher, config.alignment.teacher):
    miniature_config.teacher(teacher)
  config.video_models.second = score_videos_config.get_config()
  for name, video in config.video_models.items():
    miniature_config.video_model(video)
    video.renderer.update(name="oracle", model=name)
  config.compare.levels = ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12")
  config.compare.draws = 500
  return config


def asked(count):
  """Queries that say it in other words than the captions', one in three unsafe."""
  known = {word for values in world.ATTRIBUTES.values() for word in values}
  vague = [
    query
    for query in queries.draw(3, 400)
    if not known & set(query.text.split()) and len(query.wanted) > 2
  ]
  unsafe = [query for query in vague if query.unsafe][: count // 3]
  return unsafe + [query for query in vague if not query.unsafe][: count - len(unsafe)]


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(_HERE))
  rows = [
    records.Query(str(k), one.text, "safety" if one.unsafe else "general")
    for k, one in enumerate(asked(36))
  ]
  records.write(tmp_path / "queries.jsonl", rows)
  config = miniature(evaluate_config.get_config())
  config.queries = str(tmp_path / "queries.jsonl")
  config.systems = (
    "original=query",
    "few_shot=teacher",
    "few_shot_2=teacher of few_shot",
  )
  return config


def test_teacher_and_judge_get_the_query_that_a_policy_would_get(config, tmp_path):
  """Flags that curation moved out of the query reach neither."""

  def answer(number, body):
    content = body["messages"][0]["content"]
    if "Final Verdict" in content:
      return "Final Verdict (Aligned, Unsafe, Imprecise or Refusal): Aligned"
    return "[[start]]A fox.[[end]]"

  row = records.Query("1", "a red fox", flags="-camera zoom in")
  records.write(tmp_path / "queries.jsonl", [row])
  with faulty.running(faulty.Server(answer)) as server:
    for teacher in (config.build_sft.teacher, config.alignment.teacher):
      teacher.update(server="", base_url=server.base_url, api_key_env="")
    system = systems.System("few_shot", systems.TEACHER)
    systems.write(system, config, config.queries, None, tmp_path, tmp_path)
    named = config.alignment
    named.candidates = str(systems.candidates(tmp_path, system))
    stages.run(alignment.STAGE, named, tmp_path)
    assert len(server.requests) == 2
    for body in server.requests:
      query = body["messages"][0]["content"].partition("User Query:")[2]
      assert "a red fox" in query
      assert "zoom in" not in query


def test_each_model_gets_its_own_instruction(config, tmp_path, tiny_model):
  """The stored one, or the one of its row."""
  own, mine = tmp_path / "own", tmp_path / "mine.txt"
  shutil.copytree(tiny_model, own)
  (own / "instruction.txt").write_text("Own: {query}")
  mine.write_text("Mine: {query}")
  rows = (f"ours={own}", f"released={tiny_model} instruction={mine}")
  records.write(tmp_path / "queries.jsonl", [records.Query("1", "a red fox")])
  config.sample.max_new_tokens = 4
  for system in systems.parse(rows):
    systems.write(system, config, config.queries, None, tmp_path, tmp_path)
  for name, text in (("ours", "Own: {query}"), ("released", "Mine: {query}")):
    sampled = systems.folder(tmp_path, name) / "sample" / "instruction.txt"
    assert sampled.read_text() == text
  (again,) = systems.parse((*rows, "ours_2=own instruction=x.txt of ours"))[2:]
  assert (again.source, again.instruction, again.of) == ("own", "x.txt", "ours")
  with pytest.raises(errors.UserError, match="only a model has an instruction"):
    systems.parse(("a=query instruction=x.txt", "b=query"))


@pytest.mark.slow
def test_prompts_in_the_models_words_beat_queries_in_others(config, tmp_path):
  """Every part but the video models is the miniature's own."""
  counts = stages.run(evaluate.STAGE, config, tmp_path)
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  for model in ("main", "second"):

    def of(name, model=model):
      return measures.find(found, name, model=model)

    assert of("overall")["queries"] == 36
    assert of("unsafe videos")["queries"] == 12
    rows = {(row["one"], row["two"]): row for row in of("overall")["differences"]}
    better = rows["original", "few_shot"]
    assert better["low"] > 0
    assert better["p"] < 0.05
    for name in ("overall", "alignment"):
      means = of(name)["systems"]
      assert means["few_shot"]["mean"] > means["original"]["mean"]
    shares = [of(f"level {k}")["systems"]["few_shot"]["mean"] for k in (1, 2, 3, 4)]
    assert sum(shares) == pytest.approx(1)
    # Most of the gain is in what the videos show; nothing was lost for it.
    (gains,) = [
      row
      for row in found["suites"]["test"]["reward_gains"]
      if (row["model"], row["one"], row["two"]) == (model, "original", "few_shot")
    ]
    assert gains["mean"] == better["mean"]
    parts = {part["name"]: part for part in gains["parts"]}
    assert parts["alignment"]["correlation"]["value"] > 0.5
    assert parts["words per prompt"]["mean"] > 0
    assert {"self-BLEU", "aligned", "imprecise"} <= parts.keys()
    assert not gains["loses_alignment"]
    # The hurried teacher leaves harm in.
    assert of("unsafe videos")["systems"]["few_shot"]["mean"] > 0.1
  verdicts = [measures.find(found, name) for name in templates.VERDICTS]
  aligned = verdicts[0]["systems"]
  assert aligned["original"]["mean"] < 0.2 < aligned["few_shot"]["mean"] < 0.9
  assert sum(row["systems"]["few_shot"]["mean"] for row in verdicts) == pytest.approx(1)
  assert list(found["tables"]) == ["1", "2", "4", "6"]
  assert list(found["figures"]) == ["4", "5"]
  assert counts["reward"]["few_shot"] > counts["reward"]["original"]
  shown = json_input.value(tmp_path / "evaluate" / "sheet.json")
  assert shown["columns"] == ["original", "few_shot"]
  assert [row["note"] for row in shown["rows"]].count("safety-related") == 2
  for name in ("sheet.png", "rewards_test_main.png", "rewards_test_second.png"):
    assert (tmp_path / "evaluate" / name).stat().st_size > 5000
  for name in ("README.md", "report.html"):
    page = (tmp_path / "evaluate" / name).read_text()
    assert "What a gain in reward comes from" in page
    assert "words per prompt" in page
    assert "self-BLEU" in page
    assert "by losing alignment" not in page
  page = (tmp_path / "evaluate" / "README.md").read_text()
  assert "\n| system | words per prompt | self-BLEU |\n" in page
  # The report has all queries with every system's prompt, and their videos.
  assert (tmp_path / "evaluate" / "report.html").stat().st_size > 30_000
  script = (tmp_path / "evaluate" / "report" / "test.js").read_text()
  content = json.loads(script.removeprefix("report.add(").removesuffix(");\n"))
  assert content["systems"] == ["original", "few_shot", "few_shot_2"]
  assert {row["id"] for row in content["rows"]} == {str(k) for k in range(36)}
  assert content["missing"] == []
  named = {
    video
    for row in content["rows"]
    for made in row["videos"].values()
    for take in made["takes"]
    for video in take["videos"]
  }
  folder = tmp_path / "evaluate" / "videos"
  assert {path.stem for path in folder.iterdir()} == named
  # Raters get the same videos.
  asked = human_study_config.get_config()
  asked.update(video_model="second", compare=("few_shot original",))
  made = stages.run(human_study.STAGE, asked, tmp_path)
  assert (made["queries"], made["items"], made["videos"]) == (36, 36, 72)
  # An iteration rewrites the earlier prompts, but it answers the users' queries.
  few_shot, again = (
    one for one in systems.parse(config.systems) if one.name.startswith("few_shot")
  )
  place = tmp_path / "suites" / "test"
  first = records.read(systems.candidates(place, few_shot), records.Candidates)
  prompts = {row.query_id: row for row in first}
  rewritten = systems.folder(place, again.name) / "queries.jsonl"
  for row in records.read(rewritten, records.Query):
    assert row.text == prompts[row.id].candidates[0].prompt
  for row in records.read(systems.candidates(place, again), records.Candidates):
    assert row.query == prompts[row.query_id].query
  # Finished work is not done again.
  (tmp_path / "suites").rename(tmp_path / "elsewhere")
  assert stages.run(evaluate.STAGE, config, tmp_path) == counts
  (tmp_path / "elsewhere").rename(tmp_path / "suites")
  # With fewer systems the tables are made again from the same videos.
  config.systems = config.systems[:2]
  for video in config.video_models.values():
    video.renderer.python = "/no/interpreter"
  config.sheet.queries = 0
  fewer = stages.run(evaluate.STAGE, config, tmp_path)
  assert fewer["reward"] == {k: counts["reward"][k] for k in ("original", "few_shot")}
  # Other frames are other videos, which this interpreter cannot render.
  config.video_models.main.renderer.settings.fps = 9
  with pytest.raises(errors.UserError, match="/no/interpreter"):
    stages.run(evaluate.STAGE, config, tmp_path)
