"""Diffusion DPO in the miniature: its pairs, its training, and bad input."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import diffusion_runs
import numpy as np
import pytest

from configs import score_videos as score_videos_config
from tests import waiting
from torch_bridge import contract, video
from vpo_jax import errors, json_input, records, stages
from vpo_jax.feedback import diffusion_pairs, score_videos, train_diffusion_dpo

ROOT = pathlib.Path(__file__).parents[2]


def _scored(prompt, number, reward, groups=None, query="q"):
  return records.Scored(
    query_id=query,
    query=query,
    index=prompt,
    prompt=f"prompt {prompt}",
    video_id=f"{query}-{prompt}-{number}",
    seed=number,
    reward=reward,
    signed=0.0,
    groups=groups or {"all": reward},
    yes=(),
    scalars={},
  )


def _ids(pairs):
  return [(winner.video_id, loser.video_id) for winner, loser in pairs]


def test_pairs_are_of_one_prompt_and_the_widest_counts():
  rules = diffusion_runs.pairs_config().rules
  rules.update(margin=0.5, dominance="none")
  scored = [
    _scored(0, 0, 1.0),
    _scored(0, 1, 3.0),
    _scored(0, 2, 2.0),
    _scored(1, 0, 9.0),  # another prompt of the query
    _scored(1, 1, 8.6),  # a margin of 0.4
  ]
  assert _ids(diffusion_pairs.select(scored, rules)) == [("q-0-1", "q-0-0")]
  rules.one_per_query = False
  assert len(diffusion_pairs.select(scored, rules)) == 3


def test_dominance_over_dimensions():
  """VisionReward's rule: no dimension of the preferred video is worse."""
  rules = diffusion_runs.pairs_config().rules
  rules.update(margin=0.5, dominance="dimensions")
  better, worse = {"motion": 0.1, "looks": 2.9}, {"motion": 0.2, "looks": 1.0}
  scored = [_scored(0, 0, 3.0, better), _scored(0, 1, 1.2, worse)]
  assert diffusion_pairs.select(scored, rules) == []
  rules.dominance = "none"
  assert len(diffusion_pairs.select(scored, rules)) == 1


def _write_pairs(folder, rows):
  for part in ("train", "heldout"):
    records.write(folder / "diffusion_pairs" / f"{part}.jsonl", rows)


def _pair(name="one"):
  return contract.VideoPair(name, "a circle", "a circle", "no.mp4", "none.mp4", 1.0)


def test_a_preference_file_whose_videos_are_missing_is_one_line(tmp_path):
  _write_pairs(tmp_path, [_pair()])
  with pytest.raises(errors.UserError) as caught:
    stages.run(train_diffusion_dpo.STAGE, diffusion_runs.training_config(), tmp_path)
  line = str(caught.value)
  assert "no pair can be used; the first: pair one: no.mp4: No such file" in line
  assert "\n" not in line


def test_rows_that_are_no_pairs_are_named_by_file_and_line(tmp_path):
  _write_pairs(tmp_path, [])
  (tmp_path / "diffusion_pairs" / "train.jsonl").write_text('{"prompt": "a"}\n')
  with pytest.raises(errors.UserError, match=r"train.jsonl:1: id is missing"):
    stages.run(train_diffusion_dpo.STAGE, diffusion_runs.training_config(), tmp_path)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"method": "qlora"}, "config.method='qlora': must be one of lora, full"),
    ({"method": "full", "shard": True}, "config.shard=True needs config.method='lora'"),
    ({"precision": "float16"}, "must be bfloat16 or float32"),
    ({"steps": 0}, "config.steps=0: must be above 0"),
    ({"renderer": {"name": "command"}}, "command cannot be trained, only diffusers"),
  ],
)
def test_a_wrong_config_is_one_line(tmp_path, change, reason):
  _write_pairs(tmp_path, [_pair()])
  config = diffusion_runs.training_config()
  config.update(change)
  with pytest.raises(errors.UserError, match=reason):
    stages.run(train_diffusion_dpo.STAGE, config, tmp_path)
  assert not (tmp_path / "train_diffusion_dpo").exists()


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
  """A workdir with finished pairs."""
  workdir = tmp_path_factory.mktemp("paired")
  diffusion_runs.write_candidates(workdir / "sample" / "candidates.jsonl", 6)
  counts = stages.run(diffusion_pairs.STAGE, diffusion_runs.pairs_config(), workdir)
  assert counts["train"] >= 2
  assert counts["heldout"] >= 1
  return workdir


@pytest.mark.slow
def test_videos_of_the_store_are_not_rendered_again(paired):
  """`score_videos` of the same prompts takes its first video from the pairs'."""
  config = diffusion_runs.pairs_config()
  pairs = json_input.value(paired / "diffusion_pairs" / "manifest.json")["counts"]
  assert pairs["rendered"] == pairs["asked"] == 18
  config.videos_per_prompt = 1
  scoring = score_videos_config.get_config()
  scoring.update({key: config[key] for key in scoring})
  counts = stages.run(score_videos.STAGE, scoring, paired)
  assert (counts["asked"], counts["rendered"]) == (6, 0)


def test_the_prompt_of_a_pair_is_what_the_video_model_receives(tmp_path):
  store = contract.Store(tmp_path)
  winner, loser = _scored(0, 0, 1.5), _scored(0, 1, 1.0)
  row = diffusion_pairs._row(winner, loser, {"prompt_suffix": " Film."}, store)
  assert row.prompt == "prompt 0 Film."
  assert (tmp_path / row.chosen) == store.video(winner.video_id)
  assert row.margin == pytest.approx(0.5)
  assert diffusion_pairs._row(winner, loser, {}, store).prompt == "prompt 0"


def _config_flags():
  """The differences of the tests' config from configs/diffusion_dpo.py, as flags."""
  plain = stages.flat(diffusion_runs.diffusion_dpo.get_config().to_dict())
  ours = stages.flat(diffusion_runs.training_config().to_dict())
  return [
    f"--config.{key}={value}" for key, value in ours.items() if value != plain[key]
  ]


def _launch(workdir, *flags):
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / "launch" / "train_diffusion_dpo.py"),
      f"--workdir={workdir}",
      *_config_flags(),
      *flags,
    ],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.slow
def test_the_stage_trains_is_stopped_and_ends_where_an_unbroken_one_does(
  paired, tmp_path
):
  unbroken = tmp_path / "unbroken"
  (unbroken / "diffusion_pairs").mkdir(parents=True)
  broken = tmp_path / "broken"
  (broken / "diffusion_pairs").mkdir(parents=True)
  for workdir in (unbroken, broken):
    (workdir / "store").symlink_to(paired / "store")
    for part in ("train", "heldout"):
      name = f"diffusion_pairs/{part}.jsonl"
      (workdir / name).write_bytes((paired / name).read_bytes())
  config = diffusion_runs.training_config()
  # One video is black: its pair is set aside and the rest is trained on.
  rows = (unbroken / "diffusion_pairs" / "train.jsonl").read_text().splitlines()
  black = json.loads(rows[0]) | {"id": "black", "chosen": "black.mp4"}
  frames = np.zeros((9, 32, 32, 3), np.uint8)
  video.write(
    paired / "store" / "black.mp4", frames, 8, {"codec": "libx264", "crf": 17}
  )
  for workdir in (unbroken, broken):
    path = workdir / "diffusion_pairs" / "train.jsonl"
    path.write_text("\n".join([json.dumps(black), *rows]) + "\n")
  counts = stages.run(train_diffusion_dpo.STAGE, config, unbroken)
  assert counts["set_aside"] == 1
  (aside,) = records.read(
    unbroken / "train_diffusion_dpo" / "set_aside.jsonl", records.SetAside
  )
  assert aside.id == "black"
  assert aside.reason.startswith("black.mp4: black: ")
  # The result is the step of the highest mean reward of three.
  folder = unbroken / "train_diffusion_dpo"
  lines = (folder / "evaluation" / "metrics.jsonl").read_text().splitlines()
  rewards = {row["step"]: row["reward"] for row in map(json.loads, lines)}
  assert set(rewards) >= {4, 8, 12}
  assert counts["reward"] == pytest.approx(max(rewards.values()), abs=1e-3)
  assert rewards[counts["best_step"]] == max(rewards.values())
  best = folder / "run" / "output" / f"{counts['best_step']:07d}"
  file = "pytorch_lora_weights.safetensors"
  assert (folder / "lora" / file).read_bytes() == (best / file).read_bytes()

  process = _launch(broken)
  metrics = broken / "train_diffusion_dpo" / "run" / "metrics.jsonl"
  waiting.until(
    lambda: metrics.exists() and "\n" in metrics.read_text(),
    lambda: process.poll() is None,
    lambda: process.communicate()[0],
  )
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=waiting.LIMIT_S)
  assert process.returncode == 75, output
  assert "saved; the same command continues" in output
  last = _launch(broken)
  output, _ = last.communicate(timeout=waiting.LIMIT_S)
  assert last.returncode == 0, output
  name = "train_diffusion_dpo/lora/pytorch_lora_weights.safetensors"
  assert (broken / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.slow
def test_an_error_of_training_is_the_last_line_of_its_log(paired, tmp_path):
  config = diffusion_runs.training_config()
  config.targets = ("wq",)
  (tmp_path / "store").symlink_to(paired / "store")
  (tmp_path / "diffusion_pairs").symlink_to(paired / "diffusion_pairs")
  with pytest.raises(errors.UserError, match=r"LoRA targets wq do not exist.*0.log"):
    stages.run(train_diffusion_dpo.STAGE, config, tmp_path)
