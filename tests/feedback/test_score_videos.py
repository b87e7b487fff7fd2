"""Candidates are rendered and scored once; failures are counted and set aside."""

import json

import pytest

from vpo_jax import errors, records, stages
from vpo_jax.feedback import score_videos


def write_inputs(workdir, prompts, passed):
  """Writes one query, its candidates, and which of them the judge passed."""
  query = "a {braces} query"
  query_id = records.row_id(query)
  candidates = tuple(
    records.Candidate(i, prompt, "stop", 9) for i, prompt in enumerate(prompts)
  )
  row = records.Candidates(query_id, query, "general", "m", {}, candidates)
  judged = [
    records.Judged(f"j{i}", query_id, query, i, prompts[i], "", i in passed, None)
    for i in range(len(prompts))
  ]
  records.write(workdir / "sample" / "candidates.jsonl", [row])
  records.write(workdir / "text_pairs" / "judged.jsonl", judged)


def run(config, workdir):
  return stages.run(score_videos.STAGE, config, workdir)


def test_counts_add_up_and_every_file_is_complete(scripted, tmp_path):
  config, count = scripted
  prompts = ["good 0", "black", "good 2", "flawed 3", "good 4"]
  write_inputs(tmp_path, prompts, {0, 1, 2, 4})
  counts = run(config, tmp_path)
  assert counts["candidates"] == 5
  assert counts["passed_text_check"] == counts["asked"] == 4
  assert (counts["rendered"], counts["scored"], counts["failed"]) == (3, 3, 1)
  assert count()["flawed 3"] == 0
  folder = tmp_path / "score_videos"
  scored = list(records.read(folder / "scores.jsonl", records.Scored))
  aside = list(records.read(folder / "set_aside.jsonl", records.SetAside))
  assert [row.index for row in scored] == [0, 2, 4]
  assert aside[0].text == "black"
  assert "black" in aside[0].reason
  requests = (folder / "requests.jsonl").read_text().splitlines()
  assert {json.loads(line)["id"] for line in requests} >= {r.video_id for r in scored}
  assert len(list((tmp_path / "store" / "videos").rglob("*.mp4"))) == 3


def test_prompts_of_a_query_share_their_noise_and_queries_do_not(scripted, tmp_path):
  config, _ = scripted
  config.videos_per_prompt = 2
  write_inputs(tmp_path, ["good 0", "good 1"], {0, 1})
  run(config, tmp_path)
  lines = (tmp_path / "score_videos" / "requests.jsonl").read_text().splitlines()
  seeds = [json.loads(line)["seed"] for line in lines]
  assert seeds[:2] == seeds[2:]
  assert len(set(seeds) | {score_videos.noise_seed("another", 0)}) == 3


def test_finished_work_is_not_done_again_with_other_workers(scripted, tmp_path):
  config, count = scripted
  write_inputs(tmp_path, ["good 0", "good 1"], {0, 1})
  counts = run(config, tmp_path)
  before = count()
  config.bridge.workers = 1
  config.renderer.batch = 2
  assert run(config, tmp_path) == counts
  assert count() == before
  config.videos_per_prompt = 2
  with pytest.raises(errors.UserError, match=r"videos_per_prompt was 1 and is now 2"):
    run(config, tmp_path)


def test_killed_work_continues_with_other_workers(scripted, tmp_path):
  """The first run stops at a broken scorer, after it rendered; the second scores."""
  config, count = scripted
  write_inputs(tmp_path, ["good 0", "good 1"], {0, 1})
  scorer, config.scorer.python = config.scorer.python, "/no/interpreter"
  with pytest.raises(errors.UserError, match="/no/interpreter"):
    run(config, tmp_path)
  config.scorer.python = scorer
  config.bridge.workers = 1
  config.bridge.shard = 1
  assert run(config, tmp_path)["scored"] == 2
  assert count()["good 0"] == count()["good 1"] == 1


def test_the_release_renders_flawed_prompts_too(scripted, tmp_path):
  config, count = scripted
  config.text_check = False
  config.videos_per_prompt = 2
  write_inputs(tmp_path, ["good 0", "flawed 1"], {0})
  (tmp_path / "text_pairs" / "judged.jsonl").unlink()
  counts = run(config, tmp_path)
  assert counts["asked"] == counts["scored"] == 4
  assert (count()["good 0"], count()["flawed 1"]) == (2, 2)


@pytest.mark.parametrize(
  ("key", "value", "line"),
  [
    ("scorer.text_role", "none", "'query' or 'prompt'"),
    ("scorer.questions", "/no/such.json", "/no/such.json: No such file"),
    ("renderer.name", "", "renderer"),
    ("scorer.name", "", "scorer"),
  ],
)
def test_wrong_values_are_one_line(scripted, tmp_path, key, value, line):
  config, count = scripted
  config.update_from_flattened_dict({key: value})
  write_inputs(tmp_path, ["good 0"], {0})
  with pytest.raises(errors.UserError, match=line):
    run(config, tmp_path)
  assert count() == {}


def test_no_candidate_that_passed_is_an_error(scripted, tmp_path):
  config, _ = scripted
  write_inputs(tmp_path, ["flawed"], set())
  with pytest.raises(errors.UserError, match=r"no candidate of .* passed"):
    run(config, tmp_path)


def test_named_rewards_count_by_their_weights(scripted, tmp_path):
  config, count = scripted
  config.scorer.name, config.scorer.questions = "named", ""
  write_inputs(tmp_path, ["good 0", "good 1", "good 2"], {0, 1, 2})
  best = {}
  for weight in (1, -1):
    config.scorer.dimensions = (f"VQ {weight}", "MQ 2")
    workdir = tmp_path / str(weight)
    stages.run(score_videos.STAGE, named_inputs(config, tmp_path), workdir, tmp_path)
    path = workdir / "score_videos" / "scores.jsonl"
    scored = list(records.read(path, records.Scored))
    for row in scored:
      assert row.scalars.keys() == {"VQ", "MQ", "TA"}
      assert row.groups == {"VQ": weight * row.scalars["VQ"], "MQ": 1.0}
      assert row.reward == pytest.approx(weight * row.scalars["VQ"] + 1.0)
    best[weight] = max(scored, key=lambda row: row.reward).prompt
  assert best[1] != best[-1]
  assert count()["good 0"] == 1, "runs of one root share the store"
  config.scorer.dimensions = ("IQ 1",)
  with pytest.raises(errors.UserError, match=r"names IQ; the scorer gives MQ, TA, VQ"):
    run(config, tmp_path)


def named_inputs(config, workdir):
  """A copy of the config that names the workdir's inputs."""
  named = config.copy_and_resolve_references()
  named.candidates = str(workdir / "sample" / "candidates.jsonl")
  named.judged = str(workdir / "text_pairs" / "judged.jsonl")
  return named


def test_a_scorer_that_only_says_no_is_stopped_early(scripted, tmp_path):
  config, _ = scripted
  config.scorer.name = "negative"
  prompts = [f"good {i}" for i in range(60)]
  write_inputs(tmp_path, prompts, set(range(60)))
  with pytest.raises(errors.UserError, match=r"of all 16 videos are no.*-0\.21645"):
    run(config, tmp_path)
  answers = list((tmp_path / "store" / "answers").rglob("*.json"))
  assert 16 <= len(answers) < 40
