"""POST /optimize: the guard tries again, then says what is wrong."""

import json

from starlette import testclient

from vpo_jax.serve import web

GOOD = "A ginger cat stands on a red skateboard and rolls slowly down a sunlit street."
CUT = ("A ginger cat stands", "length")
GERMAN = (
  "Eine getigerte Katze steht auf einem roten Skateboard und rollt langsam eine"
  " sonnige Straße hinunter, während die Kamera ihr von der Seite folgt."
)


def ask(service, **body):
  client = testclient.TestClient(web.make(service))
  return client.post("/optimize", json={"query": "a cat on a skateboard"} | body)


def events(reply):
  lines = [line for line in reply.text.split("\n\n") if line]
  return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_query_becomes_a_prompt(scripted, policy):
  service = scripted(GOOD)
  made = ask(service, seed=7).json()
  assert made == {
    "query": "a cat on a skateboard",
    "prompt": GOOD,
    "rendered": policy.prompt("a cat on a skateboard").rendered,
    "finish_reason": "stop",
    "problem": None,
    "attempts": 1,
    "seed": 7,
  }
  prompt, wanted = service.engine.asked[0]
  assert prompt == policy.prompt("a cat on a skateboard")
  assert (wanted.temperature, wanted.top_p, wanted.seed) == (0.7, 1.0, 7)


def test_a_problem_is_tried_again_with_new_noise(scripted):
  service = scripted(CUT, GERMAN, GOOD)
  made = ask(service).json()
  assert (made["prompt"], made["attempts"], made["problem"]) == (GOOD, 3, None)
  assert len({wanted.seed for _, wanted in service.engine.asked}) == 3


def test_what_stays_wrong_is_no_success(scripted):
  reply = ask(scripted(CUT))
  assert reply.status_code == 422
  error = reply.json()["error"]
  assert error["code"] == "unusable_prompt"
  assert "breaks off" in error["message"]
  assert "tried 3 times" in error["message"]
  assert "is in German" in ask(scripted(GERMAN)).json()["error"]["message"]


def test_the_guard_can_be_turned_off(scripted):
  made = ask(scripted(CUT), guard=False).json()
  assert (made["prompt"], made["problem"], made["attempts"]) == (CUT[0], None, 1)
  assert ask(scripted(GERMAN, language="")).json()["prompt"] == GERMAN


def test_the_most_probable_prompt_is_asked_for_once(scripted):
  service = scripted(CUT)
  assert "tried 1 times" in ask(service, temperature=0).json()["error"]["message"]
  assert len(service.engine.asked) == 1


def test_a_stream_says_when_it_begins_anew(scripted):
  made = events(ask(scripted(CUT, GOOD), stream=True))
  again = [number for number, event in enumerate(made) if "again" in event]
  assert len(again) == 1
  assert "breaks off" in made[again[0]]["again"]
  assert "".join(event["text"] for event in made[: again[0]]) == CUT[0]
  assert "".join(event["text"] for event in made[again[0] + 1 : -1]) == GOOD
  assert made[-1]["optimized"]["prompt"] == GOOD
  assert made[-1]["optimized"]["attempts"] == 2


def test_a_stream_that_ends_badly_says_so(scripted):
  last = events(ask(scripted(CUT), stream=True))[-1]["optimized"]
  assert "breaks off" in last["problem"]


def test_the_page_wants_nothing_from_elsewhere(scripted):
  reply = testclient.TestClient(web.make(scripted(GOOD))).get("/")
  assert reply.headers["content-type"].startswith("text/html")
  assert "default-src 'none'" in reply.headers["content-security-policy"]
  assert "http:" not in reply.text
  assert "https:" not in reply.text
