"""Rounds: what each one reads, when they end, and which model is kept."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from configs import rounds as rounds_config
from vpo_jax import errors, queries, records, rounds, stages
from vpo_jax.curate import parts

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def config():
  return rounds_config.get_config("quickstart")


@pytest.fixture
def ran(monkeypatch):
  """`ran(rewards, kl)`: replaces the stages' work; returns the list of what ran.

  `rewards[k]` is the reward of every held-out query in round k.
  """

  def replace(rewards, kl=1.0):
    steps = []

    def run(stage, config, workdir, root, *, own_process=False):
      path = str(workdir / stage.folder_for(config)).partition("/w/")[2]
      steps.append((path, config.copy_and_resolve_references()))
      if "heldout/score_videos" in path:
        number = int(path.split("/")[1])
        rows = [
          records.Scored(
            str(i), "q", 0, "p", "v", 0, rewards[number] + i % 2, 0.0, {}, (), {}
          )
          for i in range(8)
        ]
        records.write(workdir / "score_videos" / "scores.jsonl", rows)
      counts = {"scored": 5} if stage.name == "score_videos" else {}
      return counts | {"kl": kl}

    def run_in_workdir(stage, config, workdir, root=None, **own):
      return run(stage, config, workdir, root or workdir, **own)

    monkeypatch.setattr(stages, "run", run_in_workdir)
    return steps

  return replace


def test_a_round_starts_from_the_best_model_and_the_best_is_exported(
  config, ran, tmp_path
):
  steps = ran([1.0, 2.0, 3.0, 2.5])
  found = rounds.run(config, tmp_path / "w")
  assert [one.note for one in found] == ["", "", "", "no gain"]
  assert [one.gain for one in found] == [None, 1.0, 1.0, -0.5]
  assert [one.videos for one in found] == [0, 5, 5, 5]
  by_path = dict(steps)
  model = str(tmp_path / "w/rounds/{}/train_dpo/model")
  assert by_path["rounds/1/train_dpo"].model == str(tmp_path / "w/train_sft/model")
  for number in (2, 3):
    assert by_path[f"rounds/{number}/sample"].model == model.format(number - 1)
    assert by_path[f"rounds/{number}/train_dpo"].model == model.format(number - 1)
    queries_path = tmp_path / f"w/rounds/parts/{number}.jsonl"
    assert by_path[f"rounds/{number}/sample"].queries == str(queries_path)
  assert by_path["rounds/vpo"].model == model.format(2)
  assert "rounds/4/sample" not in by_path
  seeds = {by_path[f"rounds/{k}/sample"].seed for k in (1, 2, 3)}
  assert len(seeds) == 3
  table = json.loads((tmp_path / "w/rounds/rounds.json").read_text())
  assert table["best"] == 2


def test_the_heldout_queries_are_sampled_as_the_exported_model_is_used(
  config, ran, tmp_path
):
  steps = ran([1.0, 0.0])
  rounds.run(config, tmp_path / "w")
  sample = dict(steps)["rounds/1/heldout/sample"]
  assert (sample.num_candidates, sample.temperature, sample.top_p) == (1, 0.7, 1.0)
  assert sample.queries == str(tmp_path / "w/rounds/parts/heldout.jsonl")
  assert not dict(steps)["rounds/1/heldout/score_videos"].text_check


def test_too_far_from_the_sft_model_ends_the_rounds(config, ran, tmp_path):
  ran([1.0, 2.0, 3.0], kl=60.0)
  found = rounds.run(config, tmp_path / "w")
  assert [one.note for one in found] == ["", "KL over 50"]
  table = json.loads((tmp_path / "w/rounds/rounds.json").read_text())
  assert table["best"] == 0


def test_patience_allows_rounds_without_a_gain(config, ran, tmp_path):
  config.rounds.patience = 2
  steps = ran([1.0, 0.5, 2.0, 1.0, 1.5])
  found = rounds.run(config, tmp_path / "w")
  assert [one.note for one in found] == ["", "no gain", "", "no gain", "no gain"]
  assert dict(steps)["rounds/2/sample"].model == str(tmp_path / "w/train_sft/model")


def test_groups_and_a_predictor_from_the_second_round_on(config, ran, tmp_path):
  config.export.trained = "train_groups"
  config.train_groups.loss = "grpo"
  config.choose.update(gpu_hours=1.0, strategy="promising")
  config.score_videos.videos_per_prompt = 2
  config.rounds.count = 3
  steps = ran([1.0, 2.0, 3.0, 4.0])
  rounds.run(config, tmp_path / "w")
  by_path = dict(steps)
  assert len(by_path) == len(steps), "a stage ran twice"
  strategies = [by_path[f"rounds/{k}/choose"].strategy for k in (1, 2, 3)]
  assert strategies == ["random", "promising", "promising"]
  second = by_path["rounds/2/choose"]
  assert second.videos_per_prompt == 2
  assert second.predictor == str(tmp_path / "w/rounds/1/train_predictor")
  assert second.model == str(tmp_path / "w/train_sft/model")
  assert by_path["rounds/2/score_videos"].chosen
  earlier = tmp_path / "w/rounds/1/train_predictor/scored.jsonl"
  assert by_path["rounds/2/train_predictor"].earlier == str(earlier)
  assert "rounds/3/train_predictor" not in by_path  # no round would use it
  trained = by_path["rounds/2/train_groups"]
  assert trained.model == str(tmp_path / "w/rounds/1/train_groups/model")
  assert "rounds/1/train_dpo" not in by_path


@pytest.mark.parametrize(
  ("change", "line"),
  [
    ({"count": 0}, "config.rounds.count=0: must be at least 1"),
    ({"patience": 0}, "config.rounds.patience=0: must be at least 1"),
    ({"max_kl": 0.0}, "config.rounds.max_kl=0.0: must be greater than 0"),
  ],
)
def test_a_limit_out_of_range_is_one_line(config, tmp_path, change, line):
  config.rounds.update(change)
  with pytest.raises(errors.UserError, match=line):
    rounds.run(config, tmp_path)


def write_queries(path, count):
  records.write(path, [records.Query(f"{i}", f"a cat {i}") for i in range(count)])


@pytest.mark.parametrize("fresh", [True, False])
def test_the_heldout_queries_are_in_no_round(tmp_path, fresh):
  write_queries(tmp_path / "curate" / "dpo.jsonl", 20)
  config = rounds_config.get_config("quickstart").parts
  config.update(count=3, heldout=5, fresh=fresh, seed=0)
  counts = stages.run(parts.STAGE, config, tmp_path)
  assert counts["heldout"] == 5
  ids = [
    {query.id for query in queries.load(tmp_path / "parts" / f"{name}.jsonl")[0]}
    for name in ("heldout", 1, 2, 3)
  ]
  assert set.union(*ids) == {f"{i}" for i in range(20)}
  assert all(not ids[0] & part for part in ids[1:])
  assert [len(part) for part in ids[1:]] == ([5, 5, 5] if fresh else [15, 15, 15])


def test_too_few_queries_are_one_line(tmp_path):
  write_queries(tmp_path / "curate" / "dpo.jsonl", 7)
  config = rounds_config.get_config("quickstart").parts
  config.update(count=3, heldout=5)
  with pytest.raises(errors.UserError, match="7 queries; 3 rounds with 5 held-out"):
    stages.run(parts.STAGE, config, tmp_path)


SIZES = {
  "curate.sizes.sft_general": 16,
  "curate.sizes.sft_safety": 4,
  "curate.sizes.dpo_general": 18,
  "curate.sizes.dpo_safety": 2,
  "curate.sizes.test_general": 3,
  "curate.sizes.test_safety": 1,
  "sample.max_new_tokens": 48,
  "parts.heldout": 4,
  "rounds.count": 2,
  "rounds.patience": 2,
  "export.trained": "train_groups",
  "train_groups.loss": "grpo",
  # After so little training every prompt has a flaw.
  "score_videos.text_check": False,
  "train_groups.text_feedback": "none",
  "train_groups.checkpoint_every": 1,
  # So that few steps change what the model writes, and every round is the best so far.
  "train_groups.optimizer.peak_lr": 1e-3,
  "train_groups.optimizer.warmup_ratio": 0.0,
  "rounds.min_gain": -100.0,
}


def start(workdir):
  changes = [f"--config.{key}={value}" for key, value in SIZES.items()]
  script = ["launch/rounds.py", "--config=configs/rounds.py:quickstart"]
  with (workdir.parent / f"{workdir.name}.log").open("a") as log:
    return subprocess.Popen(
      [sys.executable, *script, f"--workdir={workdir}", *changes],
      cwd=ROOT,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


@pytest.mark.slow
def test_rounds_that_are_killed_end_as_rounds_that_are_not(tmp_path):
  """GRPO with SmolLM2 and the miniature's video model, by the command."""
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert start(whole).wait() == 0, (tmp_path / "whole.log").read_text()
  for stage in ("1/train_groups", "1/heldout", "2/score_videos"):
    process = start(killed)
    while process.poll() is None and not (killed / "rounds" / stage).exists():
      time.sleep(0.2)
    time.sleep(2)
    assert process.poll() is None, (tmp_path / "killed.log").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  assert start(killed).wait() == 0, (tmp_path / "killed.log").read_text()

  def table(workdir):
    text = (workdir / "rounds" / "rounds.json").read_text()
    return json.loads(text.replace(str(workdir), ""))

  assert table(killed) == table(whole)
  assert len(table(whole)["rounds"]) == 3

  def weights(workdir, part):
    return (workdir / "rounds" / part / "model.safetensors").read_bytes()

  assert weights(killed, "vpo") == weights(whole, "vpo")
  trained = [weights(whole, f"{k}/train_groups/model") for k in (1, 2)]
  assert trained[0] != trained[1]
