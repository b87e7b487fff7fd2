"""The target's limit: what is too long is asked for again, then shortened."""

import dataclasses
import json

import pytest
from starlette import testclient

from tests.serve.test_spans import scripted as replace_sampler
from vpo_jax.promises import promises, spans, targets
from vpo_jax.sample import settings
from vpo_jax.serve import optimize, web

SAMPLING = settings.Settings(max_new_tokens=8)


@dataclasses.dataclass(frozen=True)
class Words:
  """A tokenizer that counts words, and one token for the end."""

  def __call__(self, text, verbose):
    return {"input_ids": [*text.split(), "</s>"]}


def words(limit, **profile):
  """A target that reads so many words."""
  return targets.Target(
    "tiny", targets.Profile(tokenizer="-", tokens=limit + 1, **profile), Words()
  )


@pytest.mark.parametrize(
  ("prompt", "limit", "protected", "expected"),
  [
    ("A cat sits. It purrs. It sleeps.", 5, [], "A cat sits. It purrs."),
    ("A cat sits. It purrs. It sleeps.", 4, [], "A cat sits."),
    ("A cat, a dog, and a very old bird.", 4, [], "A cat, a dog."),
    ("A cat with one extremely long tail", 3, [], "A cat with."),
    ("一只猫。 它睡觉。 它醒来。", 2, [], "一只猫。 它睡觉。"),
    # What is protected stays, wherever it is.
    (
      'A cat. It sits. It holds "HI. YOU".',
      6,
      ["HI. YOU"],
      'A cat. It holds "HI. YOU".',
    ),
    ("A cat. It sits. <lora:x:1>", 3, ["<lora:x:1>"], "A cat. <lora:x:1>"),
    ("one two three four sks", 2, ["sks"], "one sks."),
    ("one two three", 1, ["two three"], None),
  ],
)
def test_a_prompt_is_shortened_from_its_end(prompt, limit, protected, expected):
  kept = [spans.Span(text, "word") for text in protected]
  assert promises.shorten(prompt, words(limit), kept) == expected


def test_a_suffix_counts():
  assert promises.shorten("A cat. It sits.", words(5, suffix=" score: 6.5."), []) == (
    "A cat."
  )


def test_what_is_too_long_is_asked_for_again_with_the_limit(policy, monkeypatch):
  asked = replace_sampler(monkeypatch, ["A cat sits. It purrs a lot."], ["A cat sits."])
  (row,) = optimize.optimize(policy, ["a cat"], SAMPLING, target=words(10**6))
  assert (row.tokens, row.budget, len(asked)) == (8, "kept", 1)
  asked.clear()
  (row,) = optimize.optimize(policy, ["a cat"], SAMPLING, target=words(4))
  assert (row.prompt, row.tokens, row.budget) == ("A cat sits.", 4, "kept")
  assert "(the prompt must have at most 3 words)" in asked[1][0]
  assert "at most" not in asked[0][0]


def test_what_all_attempts_exceed_is_shortened_and_reported(policy, monkeypatch):
  replace_sampler(monkeypatch, *[["A cat sits. It purrs."]] * optimize.ATTEMPTS)
  (row,) = optimize.optimize(policy, ['a "cat"'], SAMPLING, target=words(3))
  assert (row.prompt, row.tokens, row.budget) == ("A cat sits.", 4, "shortened")
  assert row.spans == {"cat": "kept"}
  assert row.problem is None


def test_inserted_spans_count(policy, monkeypatch):
  replace_sampler(monkeypatch, *[["A shop at night. It is calm."]] * optimize.ATTEMPTS)
  (row,) = optimize.optimize(policy, ['a shop, "OPEN"'], SAMPLING, target=words(8))
  assert row.prompt == 'A shop at night. With the words "OPEN".'
  assert (row.spans, row.budget) == ({"OPEN": "repaired"}, "shortened")


def test_what_cannot_be_shortened_is_a_problem(policy, monkeypatch):
  replace_sampler(
    monkeypatch, *[['A shop with "ONE TWO THREE FOUR".']] * optimize.ATTEMPTS
  )
  (row,) = optimize.optimize(
    policy, ['a shop, "ONE TWO THREE FOUR"'], SAMPLING, target=words(3)
  )
  assert row.budget == "exceeded"
  assert row.problem == "has 8 tokens, of which tiny reads 4"


def test_without_the_guard_a_prompt_is_counted_but_not_shortened(policy, monkeypatch):
  replace_sampler(monkeypatch, ["A cat sits. It purrs."])
  (row,) = optimize.optimize(policy, ["a cat"], SAMPLING, target=words(3), guard=False)
  assert (row.prompt, row.tokens, row.budget, row.problem) == (
    "A cat sits. It purrs.",
    6,
    "exceeded",
    None,
  )


def test_the_targets_language_and_notes_are_used(policy, monkeypatch):
  asked = replace_sampler(
    monkeypatch, ["一只毛茸茸的橘猫在温暖的阳光下慢慢地走过安静的花园。"]
  )
  target = words(100, language="zh", notes="Be brief.")
  (row,) = optimize.optimize(policy, ["a cat"], SAMPLING, target=target)
  assert row.problem is None
  assert "aspect ratio.\n\nBe brief.\n\nUser Query:a cat" in asked[0][0]
  assert asked[0][0] == policy.prompt("a cat", "Be brief.").rendered


def test_a_negative_flag_is_for_targets_that_take_one(policy, monkeypatch):
  query = "a cat -neg blurry, text -camera zoom in"
  for takes, expected in ((True, "blurry, text"), (False, "")):
    replace_sampler(monkeypatch, ["A cat."])
    target = words(9, negative_prompt=takes)
    (row,) = optimize.optimize(policy, [query], SAMPLING, target=target)
    assert row.negative_prompt == expected


def test_the_server_offers_its_targets(scripted):
  service = scripted("A cat sits. It purrs.")
  service = dataclasses.replace(service, targets=(words(3, notes="Be brief."),))
  client = testclient.TestClient(web.make(service))
  body = {"query": "a cat", "target": "tiny"}
  answer = client.post("/optimize", json=body).json()
  assert answer["prompt"] == "A cat sits."
  assert (answer["target"], answer["tokens"]) == ("tiny", 4)
  assert (answer["budget"], answer["attempts"]) == ("shortened", optimize.ATTEMPTS)
  assert "Be brief." in answer["rendered"]
  with client.stream("POST", "/optimize", json=body | {"stream": True}) as response:
    events = [json.loads(line[6:]) for line in response.iter_lines() if line]
  again = {event["again"] for event in events if "again" in event}
  assert again == {"has 6 tokens, of which tiny reads 4"}
  assert events[-1]["optimized"] == answer
  refused = client.post("/optimize", json={"query": "a cat", "target": "sora"})
  assert refused.status_code == 400
  error = refused.json()["error"]
  assert (error["param"], error["message"]) == (
    "target",
    "unknown target 'sora'; this server has tiny",
  )


def test_a_target_is_a_model_of_the_openai_api(scripted):
  service = scripted("A cat sits. It purrs.")
  service = dataclasses.replace(service, targets=(words(3, notes="Be brief."),))
  client = testclient.TestClient(web.make(service))
  names = [model["id"] for model in client.get("/v1/models").json()["data"]]
  assert names == ["vpo", "vpo-tiny", "vpo-chat"]
  body = {"messages": [{"role": "user", "content": "a cat"}], "model": "vpo-tiny"}
  answer = client.post("/v1/chat/completions", json=body).json()
  assert answer["choices"][0]["message"]["content"] == "A cat sits."
  assert "Be brief." in service.engine.requests[0][0].rendered
  text = {"prompt": "a cat", "model": "vpo-tiny"}
  answer = client.post("/v1/completions", json=text).json()
  assert answer["choices"][0]["text"] == "A cat sits."


@pytest.mark.parametrize(
  "answers",
  [
    ["It is calm.", "A shop at night. It is calm.", "A shop. It is so calm."],
    ["", "A shop at night. It is calm.", "A cat sits."],
    ["A shop at night. It is calm.", "", ""],
  ],
)
def test_the_server_repairs_the_same_attempt_as_the_command_line(
  policy, monkeypatch, scripted, answers
):
  service = dataclasses.replace(scripted(*answers), targets=(words(8),))
  client = testclient.TestClient(web.make(service))
  body = {"query": "a shop", "keep": ["sks"], "target": "tiny"}
  served = client.post("/optimize", json=body).json()
  replace_sampler(monkeypatch, *[[answer] for answer in answers])
  (row,) = optimize.optimize(
    policy, ["a shop"], SAMPLING, keep=["sks"], target=words(8)
  )
  assert served["prompt"] == row.prompt
  assert served["spans"] == row.spans == {"sks": "repaired"}
  assert served["rendered"] == row.rendered
