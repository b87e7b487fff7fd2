"""The miniature's teacher as an OpenAI-compatible server on loopback."""

import http.client
import json
import urllib.error
import urllib.request

import hypothesis
import ml_collections
import pytest
from hypothesis import strategies

from configs import miniature
from torch_bridge.miniature import server, teacher
from vpo_jax import templates

TEXTS = {
  name: templates.load(name)
  for name in ("few_shot", "critique", "refine", "alignment", "safety")
}
GOOD = (
  "One small smooth red ball moving slowly left in front of a calm white background."
  " It is shown in bright light and in plain style."
)


def settings():
  config = ml_collections.ConfigDict()
  miniature.teacher(config)
  return config


@pytest.fixture(scope="module")
def rules():
  return teacher.make(settings().server_options.to_dict())


class Echo(teacher.Teacher):
  """Replies with the fields of the request."""

  def __init__(self):
    pass

  def write(self, query, seed):
    return f"{query} {seed}"

  def critique(self, query, prompt):
    return f"critique {query} | {prompt}"

  def refine(self, query, prompt, seed):
    return f"refine {query} | {prompt} {seed}"

  def verdict(self, query, prompt):
    return f"verdict {query} | {prompt}"

  def safety(self, query):
    return f"safety {query}"


def user(content):
  return {"role": "user", "content": content}


def filled(name, **fields):
  return user(templates.fill(TEXTS[name], **fields))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  query=strategies.text(),
  prompt=strategies.text(strategies.characters(exclude_characters="\n")),
  seed=strategies.integers(0, 9),
)
@hypothesis.example(query='User Query: "x"\n\nVideo Prompt: "y"', prompt=GOOD, seed=0)
@hypothesis.example(query=TEXTS["critique"], prompt="{query}", seed=0)
@hypothesis.example(query="Answer in this form, with the markers:", prompt="", seed=0)
def test_any_query_and_prompt_reach_the_teacher_unchanged(query, prompt, seed):
  replies = server.Replies(TEXTS, Echo())
  shown = templates.format_demonstrations(templates.demonstrations()[:3])
  written = filled("few_shot", demonstrations=shown, query=query)
  assert replies.reply([written], seed) == f"[[start]]{query} {seed}[[end]]"
  judged = filled("critique", query=query, prompt=prompt)
  assert replies.reply([judged], seed) == f"critique {query} | {prompt}"
  chat = [judged, {"role": "assistant", "content": "No"}, user(TEXTS["refine"])]
  assert replies.reply(chat, seed) == f"refine {query} | {prompt} {seed}"
  compared = filled("alignment", query=query, prompt=prompt)
  assert replies.reply([compared], seed) == f"verdict {query} | {prompt}"
  asked = filled("safety", query=query)
  assert replies.reply([asked], seed) == f"safety {query}"


def test_templates_may_be_the_users_own(rules):
  texts = {
    "few_shot": "D {demonstrations} Q {query}.",
    "critique": "J {prompt} {query}",
  }
  replies = server.Replies(texts, rules)
  assert templates.marked_text(replies.reply([user("D x Q a red ball.")], 0) or "")
  assert replies.reply([filled("critique", query="a ball", prompt=GOOD)], 0) is None


@pytest.mark.parametrize(
  ("query", "unsafe"), [("a bleeding cube", True), ("a cube", False)]
)
def test_a_query_is_judged_by_what_it_asks_for(rules, query, unsafe):
  reply = server.Replies(TEXTS, rules).reply([filled("safety", query=query)], 0)
  assert templates.judgement(reply) is unsafe


def post(base_url, body):
  request = urllib.request.Request(
    f"{base_url}/chat/completions", json.dumps(body).encode()
  )
  with urllib.request.urlopen(request) as reply:
    return json.load(reply)


def test_it_serves_the_model_that_the_config_names(rules):
  config = settings()
  messages = [filled("critique", query="a red ball", prompt=GOOD)]
  body = {"model": config.model, "messages": messages, "seed": 3}
  with server.serve(config.server_options.to_dict(), TEXTS) as base_url:
    with urllib.request.urlopen(f"{base_url}/models") as models:
      assert [m["id"] for m in json.load(models)["data"]] == [config.model]
    answer = post(base_url, body)
    expected = rules.critique("a red ball", GOOD)
    assert answer["choices"][0]["message"]["content"] == expected
    for wrong, status in (
      (body | {"model": "gpt-4o"}, 404),
      (body | {"messages": [user("Tell me a joke.")]}, 400),
      ({"messages": messages}, 400),
      (body | {"messages": None}, 400),
    ):
      with pytest.raises(urllib.error.HTTPError) as caught:
        post(base_url, wrong)
      assert caught.value.code == status
      caught.value.close()
  # The port is closed, or used by another process by now.
  with pytest.raises((OSError, http.client.HTTPException)):
    post(base_url, body)


def test_wrong_rates_are_rejected_before_the_server_starts():
  with pytest.raises(ValueError, match="unknown rate 'lazy'"):
    server.serve({**settings().server_options.to_dict(), "lazy": 1.0}, TEXTS)
