import json

import pytest

from vpo_jax import errors, records
from vpo_jax.feedback import video_pairs


def _write_inputs(workdir, prompts, passed):
  """One query; its candidates, and which of them the judge passed."""
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


def test_counts_add_up_and_every_file_is_whole(scripted, tmp_path):
  config, count = scripted
  config.rules.margin = 0.0
  config.rules.dominance = False
  prompts = ["good 0", "black", "good 2", "flawed 3", "good 4"]
  _write_inputs(tmp_path, prompts, {0, 1, 2, 4})
  counts = video_pairs.run(config, tmp_path)
  assert counts["candidates"] == 5
  assert counts["passed_text_check"] == counts["asked"] == 4
  assert (counts["rendered"], counts["scored"], counts["failed"]) == (3, 3, 1)
  assert count()["flawed 3"] == 0
  folder = tmp_path / "video_pairs"
  scored = list(records.read(folder / "scores.jsonl", records.Scored))
  aside = list(records.read(folder / "set_aside.jsonl", records.SetAside))
  pairs = list(records.read(folder / "pairs.jsonl", records.Pair))
  assert [row.index for row in scored] == [0, 2, 4]
  assert aside[0].text == "black"
  assert "black" in aside[0].reason
  assert len(pairs) == counts["pairs"] == 1
  by_prompt = {row.prompt: row.reward for row in scored}
  rewards = sorted(by_prompt.values())
  assert by_prompt[pairs[0].chosen] == rewards[-1]
  assert by_prompt[pairs[0].rejected] == rewards[0]
  assert pairs[0].margin == pytest.approx(rewards[-1] - rewards[0])
  requests = (folder / "requests.jsonl").read_text().splitlines()
  assert {json.loads(line)["id"] for line in requests} >= {r.video_id for r in scored}


def test_a_querys_prompts_share_their_noise_and_queries_do_not(scripted, tmp_path):
  config, _ = scripted
  config.videos_per_prompt = 2
  _write_inputs(tmp_path, ["good 0", "good 1"], {0, 1})
  video_pairs.run(config, tmp_path)
  lines = (tmp_path / "video_pairs" / "requests.jsonl").read_text().splitlines()
  seeds = [json.loads(line)["seed"] for line in lines]
  assert seeds[:2] == seeds[2:]
  assert len(set(seeds) | {video_pairs.noise_seed("another", 0)}) == 3


def test_a_finished_stage_is_not_run_again_whatever_the_workers(scripted, tmp_path):
  config, count = scripted
  _write_inputs(tmp_path, ["good 0", "good 1"], {0, 1})
  counts = video_pairs.run(config, tmp_path)
  before = count()
  config.bridge.workers = 1
  config.renderer.batch = 2
  assert video_pairs.run(config, tmp_path) == counts
  assert count() == before
  config.rules.margin = 0.1
  with pytest.raises(errors.UserError, match=r"rules\.margin=0\.5, asked for"):
    video_pairs.run(config, tmp_path)


def test_the_release_renders_flawed_prompts_too(scripted, tmp_path):
  config, count = scripted
  config.rules.text_check = False
  config.videos_per_prompt = 2
  _write_inputs(tmp_path, ["good 0", "flawed 1"], {0})
  (tmp_path / "text_pairs" / "judged.jsonl").unlink()
  counts = video_pairs.run(config, tmp_path)
  assert counts["asked"] == counts["scored"] == 4
  assert (count()["good 0"], count()["flawed 1"]) == (2, 2)


@pytest.mark.parametrize(
  ("key", "value", "line"),
  [
    ("rules.pairing", "random", "every, adjacent"),
    ("rules.order", "last", "best_margin, first"),
    ("scorer.text_role", "none", "'query' or 'prompt'"),
    ("scorer.questions", "/no/such.json", "/no/such.json: No such file"),
  ],
)
def test_wrong_values_are_one_line(scripted, tmp_path, key, value, line):
  config, count = scripted
  config.update_from_flattened_dict({key: value})
  _write_inputs(tmp_path, ["good 0"], {0})
  with pytest.raises(errors.UserError, match=line):
    video_pairs.run(config, tmp_path)
  assert count() == {}


def test_nothing_to_render_is_said(scripted, tmp_path):
  config, _ = scripted
  _write_inputs(tmp_path, ["flawed"], set())
  with pytest.raises(errors.UserError, match=r"no candidate of .* passed"):
    video_pairs.run(config, tmp_path)


def test_named_rewards_make_pairs_by_their_weights(scripted, tmp_path):
  config, _ = scripted
  config.scorer.name = "named"
  config.rules.margin = 0.001
  config.rules.one_per_query = False
  _write_inputs(tmp_path, ["good 0", "good 1", "good 2"], {0, 1, 2})
  folder = tmp_path / "video_pairs"
  chosen = {}
  for weight in (1, -1):
    config.scorer.dimensions = (f"VQ {weight}", "MQ 2")
    counts = video_pairs.run(config, tmp_path)
    scored = list(records.read(folder / "scores.jsonl", records.Scored))
    for row in scored:
      assert row.scalars.keys() == {"VQ", "MQ", "TA"}
      assert row.groups == {"VQ": weight * row.scalars["VQ"], "MQ": 1.0}
      assert row.reward == pytest.approx(weight * row.scalars["VQ"] + 1.0)
    best = max(scored, key=lambda row: row.reward)
    pairs = list(records.read(folder / "pairs.jsonl", records.Pair))
    assert len(pairs) == counts["pairs"] == 3
    chosen[weight] = pairs[0].chosen
    assert chosen[weight] == best.prompt
    (folder / "manifest.json").unlink()
  assert chosen[1] != chosen[-1]
  config.scorer.dimensions = ("IQ 1",)
  with pytest.raises(errors.UserError, match=r"names IQ; the scorer gives MQ, TA, VQ"):
    video_pairs.run(config, tmp_path)


def test_a_scorer_that_says_only_no_is_stopped_early(scripted, tmp_path):
  config, _ = scripted
  config.scorer.name = "negative"
  prompts = [f"good {i}" for i in range(60)]
  _write_inputs(tmp_path, prompts, set(range(60)))
  with pytest.raises(errors.UserError, match=r"of all 16 videos are no.*-0\.21645"):
    video_pairs.run(config, tmp_path)
  answers = list((tmp_path / "video_pairs" / "store" / "answers").rglob("*.json"))
  assert 16 <= len(answers) < 40
