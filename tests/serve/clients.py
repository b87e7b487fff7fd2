"""Sends requests with one of four client packages and prints the answers as JSON.

    python tests/serve/clients.py openai http://127.0.0.1:8000/v1

It runs as a process of its own, with the packages of clients.txt, because some of them
conflict with constraints.txt. Every answer is for the same query, with the same seed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

QUERY = "a cat"
SEED = 5
TOKENS = 12
USER = [{"role": "user", "content": QUERY}]

# The text that a client gets plain, streamed, asynchronously and both; the texts for
# n = 2; and [prompt tokens, new tokens], plain and streamed.
Answers = dict[str, Any]


def main() -> None:
  name, url = sys.argv[1:]
  os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download
  print(json.dumps(CLIENTS[name](url)))


def use_openai(url: str) -> Answers:
  import openai

  options = {"model": "vpo", "messages": USER, "seed": SEED, "max_tokens": TOKENS}
  streamed = options | {"stream": True, "stream_options": {"include_usage": True}}
  client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
  create = client.chat.completions.create
  plain, both, chunks = create(**options), create(n=2, **options), create(**streamed)
  chunks = list(chunks)

  async def asynchronous() -> tuple[str, str]:
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
      create = client.chat.completions.create
      whole = await create(**options)
      parts = [chunk async for chunk in await create(**streamed)]
      return whole.choices[0].message.content or "", _text(parts)

  return _of_openai(plain, chunks, *asyncio.run(asynchronous()), both)


def use_litellm(url: str) -> Answers:
  import litellm

  options = {
    "model": "openai/vpo",
    "messages": USER,
    "seed": SEED,
    "max_tokens": TOKENS,
    "api_base": url,
    "api_key": "none",
    "num_retries": 0,
  }
  streamed = options | {"stream": True, "stream_options": {"include_usage": True}}
  plain, both = litellm.completion(**options), litellm.completion(n=2, **options)
  chunks = list(litellm.completion(**streamed))

  async def asynchronous() -> tuple[str, str]:
    whole = await litellm.acompletion(**options)
    parts = [chunk async for chunk in await litellm.acompletion(**streamed)]
    return whole.choices[0].message.content, _text(parts)

  return _of_openai(plain, chunks, *asyncio.run(asynchronous()), both)


def use_langchain(url: str) -> Answers:
  import langchain_openai
  from langchain_core import messages

  model = langchain_openai.ChatOpenAI(
    model="vpo",
    base_url=url,
    api_key="none",
    seed=SEED,
    max_tokens=TOKENS,
    max_retries=0,
    stream_usage=True,
  )
  plain = model.invoke(QUERY)
  chunks = list(model.stream(QUERY))
  both = model.generate([[messages.HumanMessage(QUERY)]], n=2).generations[0]

  async def asynchronous() -> tuple[str, str]:
    whole = await model.ainvoke(QUERY)
    return whole.text, "".join([chunk.text async for chunk in model.astream(QUERY)])

  def usage(message: Any) -> list[int]:
    return [message.usage_metadata[f"{kind}_tokens"] for kind in ("input", "output")]

  whole, parts = asyncio.run(asynchronous())
  return {
    "plain": plain.text,
    "stream": "".join(chunk.text for chunk in chunks),
    "async": whole,
    "async_stream": parts,
    "n": [generation.text for generation in both],
    "usage": usage(plain),
    "stream_usage": usage(sum(chunks[1:], chunks[0])),
  }


def use_llama_index(url: str) -> Answers:
  from llama_index.core import llms
  from llama_index.llms import openai_like

  model = openai_like.OpenAILike(
    model="vpo",
    api_base=url,
    api_key="none",
    is_chat_model=True,
    max_tokens=TOKENS,
    temperature=0.7,
    max_retries=0,
    additional_kwargs={"seed": SEED},
  )
  messages = [llms.ChatMessage(role="user", content=QUERY)]
  options = {"stream_options": {"include_usage": True}}
  plain = model.chat(messages)
  chunks = list(model.stream_chat(messages, **options))
  both = model.chat(messages, n=2)

  async def asynchronous() -> tuple[str, str]:
    whole = await model.achat(messages)
    parts = [part async for part in await model.astream_chat(messages)]
    return whole.message.content or "", "".join(part.delta or "" for part in parts)

  whole, parts = asyncio.run(asynchronous())
  return {
    "plain": plain.message.content,
    "stream": "".join(chunk.delta or "" for chunk in chunks),
    "async": whole,
    "async_stream": parts,
    "n": [choice.message.content for choice in both.raw.choices],
    "usage": _usage(plain.raw.usage),
    "stream_usage": _usage(chunks[-1].raw.usage),
  }


def _of_openai(
  plain: Any, chunks: list[Any], whole: str, parts: str, both: Any
) -> Answers:
  """The answers in objects of OpenAI's client, which LiteLLM returns too."""
  return {
    "plain": plain.choices[0].message.content,
    "stream": _text(chunks),
    "async": whole,
    "async_stream": parts,
    "n": [choice.message.content for choice in both.choices],
    "usage": _usage(plain.usage),
    "stream_usage": _usage(chunks[-1].usage),
  }


def _text(chunks: list[Any]) -> str:
  choices = [choice for chunk in chunks for choice in chunk.choices]
  return "".join(choice.delta.content or "" for choice in choices)


def _usage(usage: Any) -> list[int]:
  return [usage.prompt_tokens, usage.completion_tokens]


CLIENTS: dict[str, Callable[[str], Answers]] = {
  "openai": use_openai,
  "litellm": use_litellm,
  "langchain-openai": use_langchain,
  "llama-index-llms-openai-like": use_llama_index,
}


if __name__ == "__main__":
  main()
