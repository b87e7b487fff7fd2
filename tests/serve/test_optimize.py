"""Rewriting queries: the guard's retries, and streamed text."""

from vpo_jax import records
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


def test_streamed_pieces_add_up_to_the_text(policy):
  text = "  A 熊猫 eats 🎋,\n and smiles  é"
  tokens = policy.format.tokenizer(text, add_special_tokens=False).input_ids
  stream = streaming.Text(policy)
  pieces = [stream.add([token]) for token in tokens] + [stream.add([2], last=True)]
  assert "".join(pieces) == text.strip()
  assert not any("\ufffd" in piece for piece in pieces)
