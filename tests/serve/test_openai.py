"""OpenAI's client gets what the sampler draws, whatever else is in the batch."""

import concurrent.futures
import contextlib
import dataclasses
import time

import openai
import pytest
from starlette import testclient

from vpo_jax.sample import generate, settings
from vpo_jax.serve import web

SAMPLING = settings.Settings(max_new_tokens=12, seed=5)


@pytest.fixture
def client(url):
  with openai.OpenAI(
    base_url=f"{url}/v1", api_key="any", max_retries=0
  ) as openai_client:
    yield openai_client


def user(text):
  return [{"role": "user", "content": text}]


def sampled(policy, prompt, sampling=SAMPLING):
  return [
    row.prompt for row in generate.generate(policy, [prompt], sampling, slots=4)[0]
  ]


def test_models(client):
  assert [model.id for model in client.models.list()] == ["vpo", "vpo-chat"]
  assert client.models.retrieve("vpo").object == "model"


def test_vpo_treats_the_last_user_message_as_the_query(client, policy):
  messages = [
    {"role": "system", "content": "You enhance prompts."},
    *user("a dog"),
    {"role": "assistant", "content": "A dog."},
    {"role": "user", "content": [{"type": "text", "text": "a cat"}]},
  ]
  result = client.chat.completions.create(
    model="vpo", messages=messages, n=2, max_completion_tokens=12, seed=5
  )
  sampling = dataclasses.replace(SAMPLING, num_candidates=2)
  prompt = policy.prompt("a cat")
  expected = sampled(policy, prompt, sampling)
  assert [choice.message.content for choice in result.choices] == expected
  assert result.usage.prompt_tokens == len(prompt.tokens)
  assert result.usage.completion_tokens == 24
  assert {choice.finish_reason for choice in result.choices} == {"length"}


def test_an_alias_is_the_optimizer(scripted):
  service = dataclasses.replace(scripted("A cat."), aliases=("gpt-4o",))
  client = testclient.TestClient(web.make(service))
  for path, body in (
    ("/v1/chat/completions", {"messages": user("a cat")}),
    ("/v1/completions", {"prompt": "a cat"}),
  ):
    result = client.post(path, json={"model": "gpt-4o"} | body).json()
    assert result["model"] == "gpt-4o"
  prompts = [prompt for prompt, _ in service.engine.requests]
  assert prompts == [service.policy.prompt("a cat")] * 2


def test_vpo_chat_is_the_plain_model(client, policy):
  messages = [{"role": "system", "content": "Be brief."}, *user("hello")]
  result = client.chat.completions.create(
    model="vpo-chat", messages=messages, max_tokens=12, seed=5
  )
  assert [result.choices[0].message.content] == sampled(policy, policy.chat(messages))


def test_completions(client, policy):
  options = {"max_tokens": 12, "seed": 5, "extra_body": {"top_k": 20}}
  raw = client.completions.create(model="vpo-chat", prompt="Once upon", **options)
  query = client.completions.create(model="vpo", prompt=["a cat"], **options)
  sampling = dataclasses.replace(SAMPLING, top_k=20)
  assert [raw.choices[0].text] == sampled(policy, policy.text("Once upon"), sampling)
  assert [query.choices[0].text] == sampled(policy, policy.prompt("a cat"), sampling)


def test_streamed_chunks_add_up_to_the_response(client):
  options = {"model": "vpo", "n": 2, "max_tokens": 12, "seed": 5}
  whole = client.chat.completions.create(messages=user("a cat"), **options)
  chunks = list(
    client.chat.completions.create(
      messages=user("a cat"),
      stream=True,
      stream_options={"include_usage": True},
      **options,
    )
  )
  assert chunks[-1].usage == whole.usage
  for choice in whole.choices:
    mine = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == choice.index]
    assert mine[0].delta.role == "assistant"
    text = "".join(part.delta.content or "" for part in mine)
    assert text == choice.message.content
    assert [part.finish_reason for part in mine[:-1]] == [None] * (len(mine) - 1)
    assert mine[-1].finish_reason == choice.finish_reason
  assert len(chunks) > 5
  text = client.completions.create(prompt="a cat", **options)
  parts = list(client.completions.create(prompt="a cat", stream=True, **options))
  for choice in text.choices:
    mine = [c.choices[0].text for c in parts if c.choices[0].index == choice.index]
    assert "".join(mine) == choice.text


def test_several_prompts_are_answered_in_order(client, policy):
  options = {"model": "vpo", "n": 2, "max_tokens": 12, "seed": 5}
  queries = ["a cat", "two dogs run", "rain"]
  prompts = [policy.prompt(query) for query in queries]
  sampling = dataclasses.replace(SAMPLING, num_candidates=2)
  expected = [text for p in prompts for text in sampled(policy, p, sampling)]
  whole = client.completions.create(prompt=queries, **options)
  assert [choice.index for choice in whole.choices] == list(range(6))
  assert [choice.text for choice in whole.choices] == expected
  assert whole.usage.prompt_tokens == sum(len(prompt.tokens) for prompt in prompts)
  assert whole.usage.completion_tokens == 6 * 12
  usage = {"include_usage": True}
  chunks = list(
    client.completions.create(
      prompt=queries, stream=True, stream_options=usage, **options
    )
  )
  texts = [""] * 6
  for chunk in chunks[:-1]:
    texts[chunk.choices[0].index] += chunk.choices[0].text
  assert texts == expected
  assert chunks[-1].usage == whole.usage


def test_a_stop_text_ends_an_answer(client):
  options = {"model": "vpo-chat", "prompt": "Once upon", "max_tokens": 24, "seed": 5}
  whole = client.completions.create(**options).choices[0].text
  stop = whole[20:24]
  for stream in (False, True):
    result = client.completions.create(stop=[stop, "never"], stream=stream, **options)
    choices = [c.choices[0] for c in (result if stream else [result])]
    assert "".join(c.text for c in choices) == whole[: whole.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_a_missing_seed_is_drawn_and_returned(client):
  options = {"model": "vpo", "messages": user("a cat"), "max_tokens": 12}
  first, second = (client.chat.completions.create(**options) for _ in range(2))
  assert first.choices[0].message != second.choices[0].message
  again = client.chat.completions.create(seed=first.seed, **options)
  assert again.choices == first.choices


def test_fields_without_effect_are_accepted(client):
  result = client.chat.completions.create(
    model="vpo",
    messages=user("a cat"),
    max_tokens=4,
    frequency_penalty=0,
    presence_penalty=0.0,
    logprobs=False,
    response_format={"type": "text"},
    user="someone",
    extra_body={"never_heard_of": 1, "temperature": None},
  )
  assert result.choices[0].message.content


def test_an_answer_does_not_depend_on_concurrent_requests(client):
  requests = [
    {
      "messages": user(f"{'a long query ' * (number % 4)}{number}"),
      "temperature": [0, 0.5, 1.3][number % 3],
      "top_p": [1, 0.8][number % 2],
      "max_tokens": 5 + 7 * (number % 5),
      "seed": number,
      "extra_body": {"top_k": [0, 30][number % 2]},
    }
    for number in range(8)
  ]

  def text(request):
    while True:
      with contextlib.suppress(openai.RateLimitError):
        result = client.chat.completions.create(model="vpo", **request)
        return result.choices[0].message.content
      time.sleep(0.05)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    together = list(pool.map(text, requests))
  assert [text(request) for request in requests] == together
  assert len(set(together)) == 8
