"""Best of N at use: on the command line, for files, and by the server."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from starlette import testclient

from tests.serve.conftest import shared
from vpo_jax import errors, records
from vpo_jax.sample import generate, settings
from vpo_jax.serve import optimize, optimize_file, web

__all__ = ["shared"]

ROOT = pathlib.Path(__file__).parents[2]
EIGHT = settings.Settings(num_candidates=8, max_new_tokens=8, temperature=1.0)


def drawn(policy, sampling, query="a boat"):
  [row] = generate.generate(policy, [policy.prompt(query)], sampling, slots=4)
  return [candidate.prompt for candidate in row]


def best_of(loaded, policy, prompts, query="a boat"):
  [(mean_K, _)] = loaded.predict(policy, [query], [prompts])
  return prompts[np.nanargmax(mean_K)]


def test_the_prompt_is_the_one_with_the_highest_prediction(policy, loaded):
  [result] = optimize.optimize(
    policy, ["a boat"], EIGHT, guard=False, slots=4, predictor=loaded
  )
  prompts = drawn(policy, EIGHT)
  assert result.prompts == tuple(prompts)
  assert result.prompt == best_of(loaded, policy, prompts)
  assert max(gain for gain in result.gains if gain is not None) > 0
  assert result.gains[prompts.index(result.prompt)] == max(
    gain for gain in result.gains if gain is not None
  )


@pytest.mark.parametrize(
  ("problems", "gains", "expected"),
  [
    ([None, None, None], [], 0),
    (["x", None, None], [], 1),
    (["x", "x"], [], 0),
    ([None, None, None], [0.1, 0.3, 0.2], 1),
    (["x", None, None], [0.9, -0.3, 0.2], 2),  # the guard comes first
    ([None, None], [None, -2.0], 1),
    ([None, None], [None, None], 0),
    (["x", "x"], [0.1, 0.3], 1),
  ],
)
def test_the_best_passes_the_guard(problems, gains, expected):
  assert optimize.best(problems, gains) == expected


def scripted_stream(monkeypatch, *attempts):
  """Each attempt's finish reasons; returns the seeds of the attempts made."""
  seeds = []

  def stream(policy, prompts, sampling, **options):
    reasons = attempts[len(seeds)]
    seeds.append(sampling.seed)
    for index in range(len(prompts)):
      yield (
        index,
        tuple(
          records.Candidate(k, f"a red boat {len(seeds)}{k}", reason, 4)
          for k, reason in enumerate(reasons)
        ),
      )

  monkeypatch.setattr(generate, "stream", stream)
  return seeds


def test_one_that_passes_is_enough(policy, loaded, monkeypatch):
  seeds = scripted_stream(monkeypatch, ["length", "stop", "length"])
  [result] = optimize.optimize(policy, ["a boat"], EIGHT, predictor=loaded)
  assert (result.prompt, result.problem) == ("a red boat 11", None)
  assert len(seeds) == 1


def test_none_that_passes_is_sampled_again(policy, loaded, monkeypatch):
  seeds = scripted_stream(monkeypatch, ["length"] * 3, ["length", "length", "stop"])
  [result] = optimize.optimize(policy, ["a boat"], EIGHT, predictor=loaded)
  assert (result.prompt, result.problem) == ("a red boat 22", None)
  assert len(set(seeds)) == 2


def test_a_file_made_with_a_predictor_continues_only_with_it(policy, loaded, tmp_path):
  queries, output = tmp_path / "queries.txt", tmp_path / "prompts.jsonl"
  queries.write_text("a boat\na cat\n")
  options = {"guard": False, "slots": 4}
  optimize_file.optimize_file(
    policy, queries, output, EIGHT, predictor=loaded, **options
  )
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert rows[0]["prompt"] == best_of(loaded, policy, rows[0]["prompts"])
  again = optimize_file.optimize_file(
    policy, queries, output, EIGHT, predictor=loaded, **options
  )
  assert again["made"] == 0
  with pytest.raises(errors.UserError, match="made with predictor="):
    optimize_file.optimize_file(policy, queries, output, EIGHT, **options)


def optimize_command(tiny_model, *flags):
  return subprocess.run(
    [
      *(sys.executable, ROOT / "launch" / "optimize.py", f"--model={tiny_model}"),
      *("--max_new_tokens=8", "--guard=false", "--temperature=1", *flags, "a boat"),
    ],
    env=os.environ | {"COLUMNS": "200"},
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_command_prints_the_best(tiny_model, policy, trained, loaded):
  folder = trained / "train_predictor"
  ran = optimize_command(
    tiny_model, "--best_of=4", f"--predictor={folder}", "--show_all"
  )
  assert ran.returncode == 0, ran.stderr
  prompts = drawn(policy, dataclasses.replace(EIGHT, num_candidates=4))
  assert ran.stdout.strip() == best_of(loaded, policy, prompts).strip()
  assert sum(line.startswith(("+", "-")) for line in ran.stderr.splitlines()) == 4


@pytest.mark.parametrize(
  "flags", [("--best_of=4",), ("--predictor=x",), ("--best_of=0",)]
)
def test_best_of_needs_a_predictor(tiny_model, flags):
  ran = optimize_command(tiny_model, *flags)
  assert ran.returncode == 1
  assert "--best_of (2 or more) and --predictor need each other" in ran.stderr


def post(service, **body):
  client = testclient.TestClient(web.make(service))
  return client.post("/optimize", json={"query": "a boat"} | body)


def test_the_server_returns_the_best(shared, policy, loaded):
  service = dataclasses.replace(shared, predictor=loaded)
  body = {"max_new_tokens": 8, "temperature": 1.0, "guard": False}
  for count in (1, 5):
    result = post(service, best_of=count, **body).json()
    sampling = dataclasses.replace(EIGHT, num_candidates=count)
    prompts = drawn(shared.policy, sampling)
    assert result["prompt"] == best_of(loaded, policy, prompts)
    assert result["attempts"] == 1


@pytest.mark.parametrize(
  ("with_predictor", "body", "message"),
  [
    (False, {"best_of": 2}, "best_of=2: the server was started without --predictor"),
    (True, {"best_of": 9}, "best_of=9: at most 8 are allowed"),
    (True, {"best_of": 2, "stream": True}, "best_of=2: .* cannot be streamed"),
    (True, {"best_of": 0}, "best_of"),
  ],
)
def test_the_server_refuses_in_one_line(shared, loaded, with_predictor, body, message):
  predictor = loaded if with_predictor else None
  reply = post(dataclasses.replace(shared, predictor=predictor), **body)
  assert reply.status_code == 400
  error = reply.json()["error"]
  assert error["param"] == "best_of"
  assert re.search(message, error["message"])


def test_without_best_of_a_predictor_changes_nothing(shared, loaded):
  body = {"max_new_tokens": 8, "guard": False}
  services = shared, dataclasses.replace(shared, predictor=loaded)
  plain, ours = (post(service, **body).json() for service in services)
  assert plain == ours
