"""Rewriting queries: the guard's retries, files that resume, and streamed text."""

import json

import pytest

from vpo_jax import errors, records
from vpo_jax.sample import generate, settings
from vpo_jax.serve import optimize, streaming

SAMPLING = settings.Settings(max_new_tokens=8)


def test_the_prompt_equals_that_of_the_sampler(policy):
  result = optimize.optimize(policy, ["a cat"], SAMPLING, guard=False, slots=1)
  prompt = policy.prompt("a cat")
  expected = generate.generate(policy, [prompt], SAMPLING, slots=1)[0][0].prompt
  assert result == [
    optimize.Optimized("a cat", prompt.rendered, expected, (expected,), None)
  ]
  assert "User Query:a cat" in prompt.rendered


def test_iterations_rewrite_the_prompt_again(policy):
  sampling = settings.Settings(max_new_tokens=8, num_candidates=2)
  first = optimize.optimize(policy, ["a cat"], sampling, guard=False, slots=2)[0]
  twice = optimize.optimize(
    policy, ["a cat"], sampling, guard=False, iterations=2, slots=2
  )[0]
  single = settings.Settings(max_new_tokens=8)
  for before, after in zip(first.prompts, twice.prompts, strict=True):
    again = optimize.optimize(policy, [before], single, guard=False, slots=2)[0]
    assert after == again.prompt
  assert first.prompts[0] in twice.rendered


def test_a_truncated_prompt_is_sampled_again_then_reported(policy, monkeypatch):
  seeds, stream = [], generate.stream

  def record_seed(policy, prompts, sampling, **options):
    seeds.append(sampling.seed)
    return stream(policy, prompts, sampling, **options)

  monkeypatch.setattr(generate, "stream", record_seed)
  result = optimize.optimize(policy, ["a cat"], SAMPLING, slots=1)[0]
  assert result.problem == "breaks off after 8 tokens"
  assert len(set(seeds)) == optimize.ATTEMPTS


def test_a_retry_that_passes_replaces_the_prompt(policy, monkeypatch):
  def stream(policy, prompts, sampling, **options):
    reason = "stop" if sampling.seed else "length"  # the first attempt has seed 0
    for index in range(len(prompts)):
      yield index, (records.Candidate(0, f"a good prompt {index}", reason, 4),)

  monkeypatch.setattr(generate, "stream", stream)
  rows = optimize.optimize(policy, ["a", "b"], SAMPLING)
  assert [(row.prompt, row.problem) for row in rows] == [
    ("a good prompt 0", None),
    ("a good prompt 1", None),
  ]


def test_a_file_resumes(policy, tmp_path, monkeypatch):
  monkeypatch.setattr(optimize, "BLOCK", 2)
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
    optimize.optimize_file(policy, queries, output, SAMPLING, guard=False, slots=2)
  counts = optimize.optimize_file(
    policy, queries, output, SAMPLING, guard=False, slots=2
  )
  assert calls == [["a cat", "a dog"], ["rain"], ["rain"]]
  assert counts == {"queries": 3, "made": 1, "with_problem": 0}
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert [row["query"] for row in rows] == ["a cat", "a dog", "rain"]
  assert rows[2]["rendered"] == policy.prompt("rain").rendered

  other = settings.Settings(max_new_tokens=8, seed=1)
  with pytest.raises(errors.UserError, match="made with seed=0"):
    optimize.optimize_file(policy, queries, output, other, guard=False)


def test_streamed_pieces_add_up_to_the_text(policy):
  text = "  A 熊猫 eats 🎋,\n and smiles  é"
  tokens = policy.format.tokenizer(text, add_special_tokens=False).input_ids
  stream = streaming.Text(policy)
  pieces = [stream.add([token]) for token in tokens] + [stream.add([2], last=True)]
  assert "".join(pieces) == text.strip()
  assert not any("\ufffd" in piece for piece in pieces)


def test_a_files_query_is_what_the_policy_was_trained_on(policy, tmp_path):
  """Without the flags that curation stored apart from it."""
  path, output = tmp_path / "queries.jsonl", tmp_path / "prompts.jsonl"
  path.write_text(json.dumps({"text": "a cat", "flags": "-motion 2"}))
  optimize.optimize_file(policy, path, output, SAMPLING, guard=False, slots=1)
  (row,) = map(json.loads, output.read_text().splitlines())
  assert row["rendered"] == policy.prompt("a cat").rendered
