"""POST /optimize: rejected prompts are sampled again, then reported."""

import json

import pytest
from starlette import testclient

from vpo_jax.serve import web

GOOD = "A ginger cat stands on a red skateboard and rolls slowly down a sunlit street."
CUT = ("A ginger cat stands", "length")
GERMAN = (
  "Eine getigerte Katze steht auf einem roten Skateboard und rollt langsam eine"
  " sonnige Straße hinunter, während die Kamera ihr von der Seite folgt."
)


def post(service, **body):
  client = testclient.TestClient(web.make(service))
  return client.post("/optimize", json={"query": "a cat on a skateboard"} | body)


def events(reply):
  lines = [line for line in reply.text.split("\n\n") if line]
  return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_query_becomes_a_prompt(scripted, policy):
  service = scripted(GOOD)
  result = post(service, seed=7).json()
  assert result == {
    "query": "a cat on a skateboard",
    "prompt": GOOD,
    "rendered": policy.prompt("a cat on a skateboard").rendered,
    "finish_reason": "stop",
    "problem": None,
    "attempts": 1,
    "seed": 7,
    "spans": {},
    "target": None,
    "tokens": None,
    "budget": None,
    "negative_prompt": None,
    "verified": None,
  }
  prompt, sampling = service.engine.requests[0]
  assert prompt == policy.prompt("a cat on a skateboard")
  assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.7, 1.0, 7)


def test_a_rejected_prompt_is_sampled_again_with_another_seed(scripted):
  service = scripted(CUT, GERMAN, GOOD)
  result = post(service).json()
  assert (result["prompt"], result["attempts"], result["problem"]) == (GOOD, 3, None)
  assert len({sampling.seed for _, sampling in service.engine.requests}) == 3


def test_a_prompt_that_stays_unusable_is_an_error(scripted):
  reply = post(scripted(CUT))
  assert reply.status_code == 422
  error = reply.json()["error"]
  assert error["code"] == "unusable_prompt"
  assert "breaks off" in error["message"]
  assert "tried 3 times" in error["message"]
  assert "is in German" in post(scripted(GERMAN)).json()["error"]["message"]


def test_the_guard_can_be_turned_off(scripted):
  result = post(scripted(CUT), guard=False).json()
  assert (result["prompt"], result["problem"], result["attempts"]) == (CUT[0], None, 1)
  assert post(scripted(GERMAN, language="")).json()["prompt"] == GERMAN


def test_greedy_decoding_is_not_retried(scripted):
  service = scripted(CUT)
  assert "tried 1 times" in post(service, temperature=0).json()["error"]["message"]
  assert len(service.engine.requests) == 1


def test_a_stream_reports_that_it_starts_over(scripted):
  result = events(post(scripted(CUT, GOOD), stream=True))
  again = [number for number, event in enumerate(result) if "again" in event]
  assert len(again) == 1
  assert "breaks off" in result[again[0]]["again"]
  assert "".join(event["text"] for event in result[: again[0]]) == CUT[0]
  assert "".join(event["text"] for event in result[again[0] + 1 : -1]) == GOOD
  assert result[-1]["optimized"]["prompt"] == GOOD
  assert result[-1]["optimized"]["attempts"] == 2


def test_a_stream_reports_an_unusable_prompt(scripted):
  last = events(post(scripted(CUT), stream=True))[-1]["optimized"]
  assert "breaks off" in last["problem"]


def test_the_page_loads_nothing_from_other_hosts(scripted):
  reply = testclient.TestClient(web.make(scripted(GOOD))).get("/")
  assert reply.headers["content-type"].startswith("text/html")
  assert "default-src 'none'" in reply.headers["content-security-policy"]
  assert "http:" not in reply.text
  assert "https:" not in reply.text


def test_protected_spans_are_pointed_out_then_inserted(scripted, policy):
  query, kept = 'a cat beside "FISH 24H"', GOOD + ' It says "FISH 24H".'
  service = scripted(GOOD, kept)
  result = post(service, query=query).json()
  assert (result["prompt"], result["attempts"]) == (kept, 2)
  assert result["spans"] == {"FISH 24H": "kept"}
  prompts = [prompt for prompt, _ in service.engine.requests]
  assert prompts[0] == policy.prompt(query)
  assert 'must contain exactly: "FISH 24H"' in prompts[1].rendered

  result = post(scripted(GOOD), query=query, keep=["sks"]).json()
  assert result["prompt"] == f'sks, {GOOD} With the words "FISH 24H".'
  assert result["spans"] == {"FISH 24H": "repaired", "sks": "repaired"}
  last = events(post(scripted(GOOD), query=query, stream=True))[-1]["optimized"]
  assert last["prompt"] == f'{GOOD} With the words "FISH 24H".'


@pytest.mark.parametrize(
  ("keep", "line"),
  [
    ("sks", "must be a list of strings"),
    ([7], "item 1 must be a string"),
    ([""], "item 1 must be one line"),
    (["a\nb"], "item 1 must be one line"),
    (["x"] * 17, "at most 16"),
    (["<|im_end|>"], "special token"),
  ],
)
def test_a_wrong_keep_is_one_line(scripted, keep, line):
  reply = post(scripted(GOOD), keep=keep)
  assert reply.status_code == 400
  assert line in reply.json()["error"]["message"]
