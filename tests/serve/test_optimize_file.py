"""Rewriting a file of queries: resuming, order and formats."""

import csv
import io
import json

import pytest

from vpo_jax import errors, records
from vpo_jax.sample import generate, settings
from vpo_jax.serve import optimize, optimize_file

SAMPLING = settings.Settings(max_new_tokens=8)


def test_a_file_resumes(policy, tmp_path, monkeypatch):
  monkeypatch.setattr(optimize_file, "BLOCK", 2)
  queries, output = tmp_path / "queries.txt", tmp_path / "prompts.jsonl"
  queries.write_text("a cat\n\na dog\na cat\nrain\n", encoding="utf-8")
  run, calls = optimize.optimize, []

  def killed(policy, block, *args, **options):
    calls.append(list(block))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return run(policy, block, *args, **options)

  monkeypatch.setattr(optimize, "optimize", killed)
  with pytest.raises(KeyboardInterrupt):
    optimize_file.optimize_file(policy, queries, output, SAMPLING, guard=False, slots=2)
  counts = optimize_file.optimize_file(
    policy, queries, output, SAMPLING, guard=False, slots=2
  )
  assert calls == [["a cat", "a dog"], ["rain"], ["rain"]]
  assert counts == {"queries": 4, "made": 1, "with_problem": 0}
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert [row["query"] for row in rows] == ["a cat", "a dog", "a cat", "rain"]
  assert rows[3]["rendered"] == policy.prompt("rain").rendered

  other = settings.Settings(max_new_tokens=8, seed=1)
  with pytest.raises(errors.UserError, match="made with seed=0"):
    optimize_file.optimize_file(policy, queries, output, other, guard=False)


def test_a_files_query_is_what_the_policy_was_trained_on(policy, tmp_path):
  """Without the flags that curation stored apart from it."""
  path, output = tmp_path / "queries.jsonl", tmp_path / "prompts.jsonl"
  path.write_text(json.dumps({"text": "a cat", "flags": "-motion 2"}))
  optimize_file.optimize_file(policy, path, output, SAMPLING, guard=False, slots=1)
  (row,) = map(json.loads, output.read_text().splitlines())
  assert row["rendered"] == policy.prompt("a cat").rendered


@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_prompts_are_written_in_the_order_of_the_queries(
  policy, tmp_path, monkeypatch, ending
):
  """Line by line, with repeated queries, whatever the format."""

  def stream(policy, prompts, sampling, **options):
    for index, prompt in enumerate(prompts):
      query = prompt.rendered.partition("User Query:")[2].split("\n")[0]
      yield index, (records.Candidate(0, f"One {query},\nseen from afar.", "stop", 4),)

  monkeypatch.setattr(generate, "stream", stream)
  path, output = tmp_path / "queries.csv", tmp_path / f"prompts.{ending}"
  path.write_text('prompt\na cat\n"a ""dog"""\na cat\n')
  for _ in range(2):
    optimize_file.optimize_file(policy, path, output, SAMPLING, guard=False)
    text = output.read_text()
    if ending == "txt":
      assert text.splitlines() == [
        "One a cat, seen from afar.",
        'One a "dog", seen from afar.',
        "One a cat, seen from afar.",
      ]
    else:
      rows = list(csv.DictReader(io.StringIO(text)))
      assert [row["query"] for row in rows] == ["a cat", 'a "dog"', "a cat"]
      assert rows[0]["prompt"] == "One a cat,\nseen from afar."
    output.unlink()


def test_another_ending_is_refused(policy, tmp_path):
  with pytest.raises(errors.UserError, match="must end with"):
    optimize_file.optimize_file(policy, "q.txt", tmp_path / "p.xlsx", SAMPLING)
