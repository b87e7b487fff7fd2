"""Candidates from a server with the OpenAI API, for example vLLM.

The server gets the prompts as token ids, so its chat template is not used, and each
query has a seed of its own. Settings that such servers would otherwise take from the
model's generation_config.json (top_k, repetition penalty) are sent with each request.
"""

import concurrent.futures
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from etils import epy

from vpo_jax import errors, records
from vpo_jax.sample import lm, settings

with epy.lazy_imports():  # slow to import, and not always used
  import openai

# The HTTP library logs every request at INFO, which absl prints.
for _name in ("httpx", "httpx2"):
  logging.getLogger(_name).setLevel(logging.WARNING)

# Extensions of vLLM and SGLang that are off in the sampler's own terms.
_OFF = {"repetition_penalty": 1.0, "min_p": 0.0}


def check(config: ml_collections.ConfigDict) -> None:
  """Checks that the server has the model.

  Args:
    config: `openai` of the stage's config (configs/sample.py).

  Raises:
    UserError: it cannot be reached, refuses the key, or does not have the model.
  """
  with _client(config) as client:
    try:
      served = [one.id for one in client.with_options(max_retries=0).models.list()]
    except openai.OpenAIError as error:
      raise _error(error, config, client) from error
  if config.model not in served:
    raise errors.UserError(
      f"config.openai.model={config.model!r}: the server at {config.base_url} has"
      f" {', '.join(served) or 'no model'}"
    )


def stream(
  config: ml_collections.ConfigDict,
  prompter: lm.Prompter,
  prompts: Sequence[lm.Prompt],
  wanted: settings.Settings,
) -> Iterator[tuple[int, tuple[records.Candidate, ...]]]:
  """Yields (index of a prompt, its candidates) as `generate.stream` does.

  A candidate's tokens are counted from its text.

  Raises:
    UserError: a request failed after all retries. The candidates of requests that were
      in flight are yielded first; no further request is sent.
  """
  stopped = threading.Event()
  failed: BaseException | None = None
  with (
    _client(config) as client,
    concurrent.futures.ThreadPoolExecutor(config.parallel) as pool,
  ):

    def sample(prompt: lm.Prompt) -> tuple[records.Candidate, ...] | None:
      if stopped.is_set():
        return None
      try:
        return _sample(client, config, prompter, prompt, wanted)
      except openai.OpenAIError as error:
        raise _error(error, config, client) from error

    futures = {pool.submit(sample, prompt): i for i, prompt in enumerate(prompts)}
    try:
      for future in concurrent.futures.as_completed(futures):
        if error := future.exception():
          failed = failed or error
          stopped.set()
        elif found := future.result():
          yield futures[future], found
    finally:
      stopped.set()
  if failed:
    raise failed


def _client(config: ml_collections.ConfigDict) -> "openai.OpenAI":
  return openai.OpenAI(
    base_url=config.base_url,
    api_key=_key(config),
    timeout=config.timeout_s,
    max_retries=config.retries,
  )


def _sample(
  client: "openai.OpenAI",
  config: ml_collections.ConfigDict,
  prompter: lm.Prompter,
  prompt: lm.Prompt,
  wanted: settings.Settings,
) -> tuple[records.Candidate, ...]:
  extensions: dict[str, Any] = {
    "top_k": wanted.top_k or -1,
    "stop_token_ids": list(prompter.format.stops),
    **_OFF,
  }
  reply = client.completions.create(
    model=config.model,
    prompt=list(prompt.tokens),
    n=wanted.num_candidates,
    temperature=wanted.temperature,
    top_p=wanted.top_p,
    max_tokens=wanted.max_new_tokens,
    seed=seed(wanted.seed, prompt.rendered),
    extra_body=extensions,
  )
  problem = None
  if reply.usage and reply.usage.prompt_tokens != len(prompt.tokens):
    problem = (
      f"read {reply.usage.prompt_tokens} tokens of a prompt of {len(prompt.tokens)}: it"
      " does not take token ids as they are"
    )
  elif len(reply.choices) != wanted.num_candidates:
    problem = f"returned {len(reply.choices)} candidates, not {wanted.num_candidates}"
  for choice in reply.choices:
    if choice.finish_reason not in ("stop", "length"):
      problem = f"ended a candidate with {choice.finish_reason!r}"
  if problem:
    raise errors.UserError(f"the server at {config.base_url} {problem}")
  ordered = sorted(reply.choices, key=lambda choice: choice.index)
  return tuple(_candidate(prompter, k, choice) for k, choice in enumerate(ordered))


def _candidate(prompter: lm.Prompter, index: int, choice: Any) -> records.Candidate:
  ids = prompter.format.tokenizer(choice.text, add_special_tokens=False).input_ids
  return records.Candidate(
    index=index,
    prompt=prompter.answer(choice.text),
    finish_reason=choice.finish_reason,
    tokens=len(ids) + (choice.finish_reason == "stop"),
  )


def _error(
  error: Exception, config: ml_collections.ConfigDict, client: "openai.OpenAI"
) -> errors.UserError:
  if isinstance(error, openai.APIConnectionError):  # a timeout is one too
    return errors.UserError(
      f"the server at {config.base_url} (config.openai.base_url) cannot be reached or"
      " does not answer; finished queries are kept, run the same command to continue"
    )
  line = " ".join(str(error).split())
  if config.api_key_env:  # a server may repeat the key
    line = line.replace(client.api_key, "KEY")
  return errors.UserError(f"the server at {config.base_url}: {line[:300]}")


def seed(seed: int, prompt: str) -> int:
  """The seed of a query's request: with one for all, their draws would correlate."""
  return int(settings.noise_key(seed, prompt, 0)[0]) & 0x7FFFFFFF


def _key(config: ml_collections.ConfigDict) -> str:
  if not config.api_key_env:
    return "none"
  key = os.environ.get(config.api_key_env, "").strip()
  if not key:
    raise errors.UserError(
      f"config.openai.api_key_env: the environment variable {config.api_key_env} holds"
      " no key"
    )
  return key
