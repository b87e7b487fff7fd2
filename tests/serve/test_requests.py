"""What clients of the OpenAI API send is answered, or refused with the field's name."""

import dataclasses

import pytest
from starlette import testclient

from tests.serve import live
from vpo_jax.serve import engine, web

ANSWER = "A cat stands."
USER = {"role": "user", "content": "a cat"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TEXT = {"type": "text", "text": "a cat", "cache_control": {"type": "ephemeral"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MODELS = ("vpo", "vpo-chat")
NULLABLE = (
  "frequency_penalty",
  "function_call",
  "functions",
  "logit_bias",
  "logprobs",
  "max_completion_tokens",
  "max_tokens",
  "metadata",
  "modalities",
  "n",
  "parallel_tool_calls",
  "presence_penalty",
  "response_format",
  "seed",
  "service_tier",
  "stop",
  "store",
  "stream",
  "stream_options",
  "temperature",
  "tool_choice",
  "tools",
  "top_k",
  "top_logprobs",
  "top_p",
  "user",
)


@pytest.fixture
def service(scripted):
  return dataclasses.replace(scripted(ANSWER), aliases=("org/name",))


@pytest.fixture
def client(service):
  return testclient.TestClient(web.make(service))


def chat(client, **body):
  body = {"model": "vpo", "messages": [USER]} | body
  return client.post("/v1/chat/completions", json=body)


def complete(client, **body):
  body = {"model": "vpo", "prompt": "a cat"} | body
  return client.post("/v1/completions", json=body)


def answers(reply):
  assert reply.status_code == 200, reply.text
  return [choice["message"]["content"] for choice in reply.json()["choices"]]


def refusal(reply):
  """(param, message) of an error."""
  assert reply.status_code == 400, reply.text
  error = reply.json()["error"]
  assert error["type"] == "invalid_request_error"
  return error["param"], error["message"]


def sampling(service):
  return service.engine.requests[-1][1]


@pytest.mark.parametrize(
  "body",
  [{name: None} for name in NULLABLE]
  + [
    {"stop": []},
    {"n": 1},
    {"logprobs": False},
    {"tools": []},
    {"tools": [], "tool_choice": "none", "parallel_tool_calls": False},
    {"tool_choice": "auto"},
    {"functions": [], "function_call": "none"},
    {"response_format": {"type": "text"}},
    {"logit_bias": {}},
    {"frequency_penalty": 0, "presence_penalty": 0.0},
    {"temperature": 1, "top_p": 1},
    {"top_k": -1},
    {"stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"user": "someone", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
    {"extra_body": {"top_k": 3}, "reasoning_effort": "none"},
  ],
  ids=str,
)
def test_a_value_without_effect_is_accepted(client, body):
  assert answers(chat(client, **body)) == [ANSWER]


@pytest.mark.parametrize(
  ("body", "param", "message"),
  [
    ({"stop": ["a"] * 5}, "stop", "5 texts; at most 4"),
    ({"stop": ""}, "stop", "an empty text"),
    ({"stop": ["a", ""]}, "stop", "an empty text"),
    ({"stop": ["a", None]}, "stop", "item 2 must be a string, not null"),
    ({"stop": 7}, "stop", "a string or a list of strings, not a number"),
    ({"stop": "x" * 2000}, "stop", "2000 characters; at most 1024"),
    ({"n": 1.5}, "n", "integer"),
    ({"temperature": "0.7"}, "temperature", "must be a number"),
    ({"max_tokens": 701}, "max_tokens", "at most 700"),
    ({"max_completion_tokens": 701}, "max_completion_tokens", "at most 700"),
    ({"top_k": -2}, "top_k", "-1"),
    ({"stream_options": []}, "stream_options", "must be an object"),
    (
      {"stream_options": {"include_usage": "yes"}},
      "stream_options.include_usage",
      "true or false",
    ),
    ({"logprobs": True}, "logprobs", "not supported"),
    ({"tools": [CALL]}, "tools", "not supported"),
    ({"tool_choice": "required"}, "tool_choice", "not supported"),
    ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
    ({"messages": "a cat"}, "messages", "must be a list"),
    ({"messages": ["a cat"]}, "messages[0]", "must be an object"),
    ({"model": None}, "model", "must be a string"),
  ],
  ids=str,
)
def test_a_refusal_names_the_field(client, body, param, message):
  named, text = refusal(chat(client, **body))
  assert named == param
  assert message in text


@pytest.mark.parametrize(
  "other",
  [
    {"role": "system", "content": ""},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": [IMAGE]},
    {"role": "function", "name": "f", "content": "x\x00<|im_end|>"},
    {"role": "unknown"},
    {},
  ],
  ids=str,
)
def test_vpo_checks_only_the_last_user_turn(client, service, policy, other):
  earlier = {"role": "user", "content": [IMAGE]}
  assert answers(chat(client, messages=[earlier, other, USER, other])) == [ANSWER]
  assert service.engine.requests[-1][0] == policy.prompt("a cat")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
  ("content", "path", "message"),
  [
    ([TEXT, IMAGE], "[1]", "'image_url' is not supported; only 'text'"),
    ([{"type": "input_audio"}], "[0]", "'input_audio' is not supported"),
    ([{"type": "file"}], "[0]", "'file' is not supported"),
    ([{"type": "text"}], "[0].text", "must be a string"),
    (["a cat"], "[0]", "must be an object"),
    (None, "", "a string or a list"),
    (7, "", "a string or a list"),
    ("a<|im_end|>", "", "a special token"),
  ],
)
def test_a_user_message_must_be_text(client, model, content, path, message):
  messages = [{"role": "system", "content": "x"}, {"role": "user", "content": content}]
  param, text = refusal(chat(client, model=model, messages=messages))
  assert param == f"messages[1].content{path}"
  assert message in text


@pytest.mark.parametrize("model", MODELS)
def test_text_parts_are_joined(client, service, policy, model):
  message = {"role": "user", "name": "bob", "content": [TEXT, TEXT | {"text": "!"}]}
  assert answers(chat(client, model=model, messages=[message])) == [ANSWER]
  plain = [{"role": "user", "content": "a cat!"}]
  expected = policy.prompt("a cat!") if model == "vpo" else policy.chat(plain)
  assert service.engine.requests[-1][0] == expected


@pytest.mark.parametrize(
  ("role", "content"),
  [
    ("system", ""),
    ("developer", ""),
    ("assistant", ""),
    ("assistant", None),
    ("assistant", []),
  ],
)
def test_vpo_chat_renders_empty_content(client, service, policy, role, content):
  messages = [{"role": role, "content": content, "tool_calls": []}, USER]
  assert answers(chat(client, model="vpo-chat", messages=messages)) == [ANSWER]
  role = "system" if role == "developer" else role
  expected = policy.chat([{"role": role, "content": ""}, USER])
  assert service.engine.requests[-1][0] == expected


@pytest.mark.parametrize(
  ("message", "field"),
  [
    ({"role": "tool", "tool_call_id": "1", "content": "x"}, "role"),
    ({"role": "function", "name": "f", "content": "x"}, "role"),
    ({"content": "x"}, "role"),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls"),
    ({"role": "assistant", "content": [IMAGE]}, "content[0]"),
  ],
)
def test_vpo_chat_refuses_what_its_template_leaves_out(client, message, field):
  reply = chat(client, model="vpo-chat", messages=[USER, message, USER])
  param, text = refusal(reply)
  assert param == f"messages[1].{field}"
  assert "not supported" in text


def test_values_below_the_samplers_range_are_greedy(client, service):
  for temperature in (0, 1e-9):
    chat(client, temperature=temperature)
    assert sampling(service).temperature == 0
  for top_p in (0, 1e-50):
    chat(client, top_p=top_p)
    assert (sampling(service).top_p, sampling(service).top_k) == (1, 1)
  chat(client, top_k=-1)
  assert sampling(service).top_k == 0


@pytest.mark.parametrize(
  ("prompt", "param", "message"),
  [
    ([1, 2], "prompt", "only vpo-chat takes token ids"),
    ([[1, 2], [3]], "prompt[0]", "only vpo-chat takes token ids"),
    ([1, -2], "prompt", "item 1 must be a string"),
    ([[1], []], "prompt", "item 1 must be a string"),
    ([], "prompt", "the list is empty"),
    (["a", 1], "prompt", "item 2 must be a string"),
    (None, "prompt", "not null"),
    ({"a": 1}, "prompt", "not an object"),
    ("", "prompt", "is empty"),
    (["a", ""], "prompt[1]", "is empty"),
    (["a", "cat " * 600], "prompt[1]", "at most 500"),
    (["a"] * 9, "prompt", "9 prompts with n=1: at most 8"),
  ],
)
def test_a_completion_needs_text(client, prompt, param, message):
  named, text = refusal(complete(client, prompt=prompt))
  assert named == param
  assert message in text


class FullAtThird(live.Scripted):
  """An engine whose queue has room for two prompts."""

  def submit(self, *args, **options):
    if len(self.requests) == 2:
      raise engine.QueueFull(1)
    return super().submit(*args, **options)

  def cancelled(self):
    return len(self._cancelled)


def test_a_full_queue_frees_the_other_prompts(service, policy):
  full = FullAtThird(policy, [ANSWER])
  client = testclient.TestClient(web.make(dataclasses.replace(service, engine=full)))
  assert complete(client, prompt=["a", "b", "c"]).status_code == 429
  assert full.cancelled() == 2


def test_best_of_must_equal_n(client):
  assert complete(client, n=2, best_of=2).status_code == 200
  assert refusal(complete(client, n=2, best_of=3))[0] == "best_of"


def test_a_model_name_may_have_slashes(client):
  assert chat(client, model="org/name").json()["model"] == "org/name"
  for path in ("org/name", "org%2Fname"):
    assert client.get(f"/v1/models/{path}").json()["id"] == "org/name"
  assert client.get("/v1/models/other/name").status_code == 404
  assert client.get("/v1/models/").json() == client.get("/v1/models").json()


def test_a_wrong_address_is_explained(client):
  reply = client.post("/chat/completions", json={})
  assert reply.status_code == 404
  assert "POST /chat/completions" in reply.json()["error"]["message"]
  assert "under /v1" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
  ("content", "kind", "message"),
  [
    (b"{}", "text/plain", "Content-Type: application/json"),
    (b"", "application/json", "must be a JSON object"),
    (b"[]", "application/json", "must be a JSON object"),
    (b"{", "application/json", "not JSON"),
  ],
)
def test_a_body_must_be_a_json_object(client, content, kind, message):
  headers = {"Content-Type": kind}
  reply = client.post("/v1/chat/completions", content=content, headers=headers)
  assert message in refusal(reply)[1]


@pytest.mark.parametrize("value", ["Bearer none", "Basic eDp5", "x", ""])
def test_without_a_key_every_authorization_is_accepted(client, value):
  assert client.get("/v1/models", headers={"Authorization": value}).status_code == 200
