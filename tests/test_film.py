"""Best of N by real videos: what is filmed, and which prompt is kept."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import film as film_config
from vpo_jax import errors, film, records, stages

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
  config = film_config.get_config("quickstart")
  config.queries = str(tmp_path / "queries.txt")
  (tmp_path / "queries.txt").write_text("a boat\na cat\n")
  return config


@pytest.fixture
def ran(monkeypatch):
  """`ran(prompts, rewards)`: replaces the work of both stages.

  Args:
    prompts: {text that is rewritten: its prompts}.
    rewards: {prompt: its reward}.

  Returns: the list of (stage, config, rows of its input).
  """

  def replace(prompts, rewards):
    steps = []

    def run(stage, config, workdir, root, *, own_process):
      if stage.name == "sample":
        rows = list(records.read(config.queries, records.Query))
        out = [
          records.Candidates(
            row.id,
            row.text,
            "general",
            "",
            {},
            tuple(
              records.Candidate(
                k, text.rstrip("!"), "length" if "!" in text else "stop", 5
              )
              for k, text in enumerate(prompts[row.text])
            ),
          )
          for row in rows
        ]
        records.write(workdir / "sample" / "candidates.jsonl", out)
      else:
        rows = list(records.read(config.candidates, records.Candidates))
        out = [
          records.Scored(
            row.query_id,
            row.query,
            one.index,
            one.prompt,
            f"{one.prompt}-{k}",
            k,
            rewards[one.prompt] + 0.5 * k,
            0.0,
            {"clarity": 1.0},
            (),
            {},
          )
          for row in rows
          for one in row.candidates
          for k in range(config.videos_per_prompt)
        ]
        records.write(workdir / "score_videos" / "scores.jsonl", out)
      assert own_process
      steps.append((stage.name, config, rows))
      return {}

    monkeypatch.setattr(stages, "run", run)
    return steps

  return replace


def filmed(steps):
  """The prompts that each round films, by query."""
  return [
    {row.query: [one.prompt for one in row.candidates] for row in rows}
    for name, _, rows in steps
    if name == "score_videos"
  ]


def test_the_best_prompt_is_kept(config, ran, tmp_path):
  prompts = {"a boat": ["one boat", "two boats"], "a cat": ["one cat", "two cats"]}
  rewards = {"one boat": 1.0, "two boats": 3.0, "one cat": 2.0, "two cats": 1.5}
  steps = ran(prompts, rewards)
  config.score_videos.videos_per_prompt = 2
  rows = film.run(config, tmp_path / "w")
  assert [(row.query, row.prompt, row.reward) for row in rows] == [
    ("a boat", "two boats", 3.25),
    ("a cat", "one cat", 2.25),
  ]
  assert [one.prompt for one in rows[0].films] == ["two boats", "one boat"]
  assert [pathlib.Path(path).name for path in rows[0].films[0].videos] == [
    "two boats-0.mp4",
    "two boats-1.mp4",
  ]
  assert not steps[1][1].text_check
  lines = (tmp_path / "w" / "film.jsonl").read_text().splitlines()
  assert json.loads(lines[1])["prompt"] == "one cat"


def test_what_the_guard_rejects_is_not_filmed(config, ran, tmp_path, capsys):
  prompts = {"a boat": ["one boat", "one boat", "cut off!"], "a cat": ["cut off!"]}
  steps = ran(prompts, {"one boat": 1.0})
  [row] = film.run(config, tmp_path / "w")
  assert filmed(steps) == [{"a boat": ["one boat"]}]
  assert row.rejected == {"cut off": "the prompt breaks off after 5 tokens"}
  assert "1 queries have no video" in capsys.readouterr().err


def test_a_round_rewrites_what_the_last_one_improved(config, ran, tmp_path):
  prompts = {
    "a boat": ["one boat", "two boats"],
    "a cat": ["one cat"],
    "two boats": ["two boats", "three boats"],
    "one cat": ["no cat"],
    "three boats": ["four boats"],
  }
  rewards = {"one boat": 1, "two boats": 2, "three boats": 3, "four boats": 0}
  steps = ran(prompts, rewards | {"one cat": 2, "no cat": 1})
  config.rounds = 5
  boat, cat = film.run(config, tmp_path / "w")
  assert filmed(steps) == [
    {"a boat": ["one boat", "two boats"], "a cat": ["one cat"]},
    # Still scored against the query; "two boats" has its videos already.
    {"a boat": ["three boats"], "a cat": ["no cat"]},
    {"a boat": ["four boats"]},
  ]
  assert (boat.prompt, cat.prompt) == ("three boats", "one cat")
  assert [one.round for one in boat.films] == [2, 1, 1, 3]
  seeds = [config.seed for name, config, _ in steps if name == "sample"]
  assert len(set(seeds)) == len(seeds) == 3


def test_the_budget_is_not_exceeded(config, ran, tmp_path):
  prompts = {"a boat": ["b1", "b2"], "a cat": ["c1", "c2"]}
  prompts |= {"b2": ["b3", "b4"], "c2": ["c3"]}
  rewards = dict.fromkeys(("b1", "c1"), 0.0) | {"b2": 1.0, "c2": 1.0}
  steps = ran(prompts, rewards | {"b3": 2.0, "b4": 3.0, "c3": 0.0})
  config.score_videos.videos_per_prompt = 2
  config.videos, config.rounds = 7, 4
  boat, cat = film.run(config, tmp_path / "w")
  assert filmed(steps)[1] == {"a boat": ["b3"], "a cat": ["c3"]}
  assert [sum(len(one.videos) for one in row.films) for row in (boat, cat)] == [6, 6]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"queries": ""}, "config.queries: name a file"),
    ({"rounds": 0}, "config.rounds=0"),
    ({"videos": 1, "score_videos.videos_per_prompt": 2}, "already takes 2 videos"),
    ({"score_videos.renderer.preset": ""}, "name a video model"),
  ],
)
def test_values_without_meaning_are_refused(config, tmp_path, changes, message):
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=message):
    film.run(config, tmp_path / "w")
  assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_command_films_for_real(tmp_path):
  """SmolLM2 writes, the miniature's video model films; a second run changes nothing."""
  (tmp_path / "queries.txt").write_text("A red circle moves to the left.\n")
  command = [
    *(sys.executable, ROOT / "launch" / "film.py", f"--workdir={tmp_path / 'w'}"),
    f"--config={ROOT / 'configs' / 'film.py'}:quickstart",
    f"--config.queries={tmp_path / 'queries.txt'}",
    "--config.sample.model=smollm2-135m-instruct",
    *("--config.sample.num_candidates=4", "--config.sample.max_new_tokens=80"),
    "--config.rounds=2",
  ]
  outputs = []
  for _ in range(2):
    ran = subprocess.run(
      command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    assert ran.returncode == 0, ran.stderr
    outputs.append((tmp_path / "w" / "film.jsonl").read_bytes())
  assert outputs[0] == outputs[1]
  row = json.loads(outputs[0])
  rewards = [one["reward"] for one in row["films"]]
  assert row["reward"] == max(rewards) == rewards[0]
  for one in row["films"]:
    assert all(pathlib.Path(path).stat().st_size > 1000 for path in one["videos"])
