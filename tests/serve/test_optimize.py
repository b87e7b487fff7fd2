"""Queries in, prompts out, with a guard that tries again and a file that goes on."""

import json

import pytest

from vpo_jax import errors, records
from vpo_jax.sample import generate, settings
from vpo_jax.serve import optimize, streaming

WANTED = settings.Settings(max_new_tokens=8)


def test_the_prompt_is_the_samplers(policy):
  made = optimize.optimize(policy, ["a cat"], WANTED, guard=False, slots=1)
  prompt = policy.prompt("a cat")
  expected = generate.generate(policy, [prompt], WANTED, slots=1)[0][0].prompt
  assert made == [
    optimize.Optimized("a cat", prompt.rendered, expected, (expected,), None)
  ]
  assert "User Query:a cat" in prompt.rendered


def test_iterations_rewrite_the_rewrite(policy):
  wanted = settings.Settings(max_new_tokens=8, num_candidates=2)
  first = optimize.optimize(policy, ["a cat"], wanted, guard=False)[0]
  twice = optimize.optimize(policy, ["a cat"], wanted, guard=False, iterations=2)[0]
  single = settings.Settings(max_new_tokens=8)
  for before, after in zip(first.prompts, twice.prompts, strict=True):
    again = optimize.optimize(policy, [before], single, guard=False)[0]
    assert after == again.prompt
  assert first.prompts[0] in twice.rendered


def test_what_breaks_off_is_tried_again_then_reported(policy, monkeypatch):
  seeds, stream = [], generate.stream

  def watched(policy, prompts, wanted, **how):
    seeds.append(wanted.seed)
    return stream(policy, prompts, wanted, **how)

  monkeypatch.setattr(generate, "stream", watched)
  made = optimize.optimize(policy, ["a cat"], WANTED, slots=1)[0]
  assert made.problem == "breaks off after 8 tokens"
  assert len(set(seeds)) == optimize.ATTEMPTS


def test_a_retry_that_is_good_is_taken(policy, monkeypatch):
  def stream(policy, prompts, wanted, **how):
    ends = "stop" if wanted.seed else "length"  # the first attempt has seed 0
    for place in range(len(prompts)):
      yield place, (records.Candidate(0, f"a good prompt {place}", ends, 4),)

  monkeypatch.setattr(generate, "stream", stream)
  made = optimize.optimize(policy, ["a", "b"], WANTED)
  assert [(row.prompt, row.problem) for row in made] == [
    ("a good prompt 0", None),
    ("a good prompt 1", None),
  ]


def test_a_file_goes_on_where_it_was(policy, tmp_path, monkeypatch):
  monkeypatch.setattr(optimize, "BLOCK", 2)
  queries, output = tmp_path / "queries.txt", tmp_path / "prompts.jsonl"
  queries.write_text("a cat\n\na dog\na cat\nrain\n", encoding="utf-8")
  run, calls = optimize.optimize, []

  def killed(policy, block, *args, **how):
    calls.append(list(block))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return run(policy, block, *args, **how)

  monkeypatch.setattr(optimize, "optimize", killed)
  with pytest.raises(KeyboardInterrupt):
    optimize.optimize_file(policy, queries, output, WANTED, guard=False)
  counts = optimize.optimize_file(policy, queries, output, WANTED, guard=False)
  assert calls == [["a cat", "a dog"], ["rain"], ["rain"]]
  assert counts == {"queries": 3, "made": 1, "with_problem": 0}
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert [row["query"] for row in rows] == ["a cat", "a dog", "rain"]
  assert rows[2]["rendered"] == policy.prompt("rain").rendered

  other = settings.Settings(max_new_tokens=8, seed=1)
  with pytest.raises(errors.UserError, match="made with seed=0"):
    optimize.optimize_file(policy, queries, output, other, guard=False)


def test_pieces_of_a_stream_make_the_whole(policy):
  text = "  A 熊猫 eats 🎋,\n and smiles  é"
  tokens = policy.tokenizer(text, add_special_tokens=False).input_ids
  stream = streaming.Text(policy)
  pieces = [stream.add([token]) for token in tokens] + [stream.add([2], last=True)]
  assert "".join(pieces) == text.strip()
  assert not any("\ufffd" in piece for piece in pieces)
