"""The OpenAI API: chat completions, completions and models.

One set of weights serves several models. `vpo` is the optimizer: the last user message
is a query, which is filled into the instruction that the model was trained with.
`vpo-TARGET` writes for that video model: the target's notes are in the instruction, and
an answer that is not streamed is shortened to what the target reads. `vpo-chat` is the
plain model: messages are rendered with its chat template, and a completion's prompts
(texts or token ids) are used unchanged.
"""

import contextlib
import dataclasses
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import fastapi
import jinja2

from vpo_jax import records
from vpo_jax.promises import promises as promises_lib
from vpo_jax.promises import targets
from vpo_jax.sample import lm, settings
from vpo_jax.serve import api_errors, generation, limits, messages, protocol
from vpo_jax.serve import service as services

OPTIMIZER = "vpo"
CHAT = "vpo-chat"

# Makes a choice of a streamed chunk from index, text or None, finish reason or None.
_ChunkChoice = Callable[[int, str | None, str | None], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Format:
  """The response format of one of the two endpoints.

  Attributes:
    id_prefix: of response ids.
    chunk_object: the `object` field of streamed chunks.
    chunk_choice: makes a choice of a chunk.
    choice: makes a choice of a complete response.
    response: the complete response.
  """

  id_prefix: str
  chunk_object: str
  chunk_choice: _ChunkChoice
  choice: Callable[[records.Candidate], protocol.Choice]
  response: Callable[..., protocol.Response]


def router(service: services.Service) -> fastapi.APIRouter:
  """The routes under /v1."""
  routes = fastapi.APIRouter(prefix="/v1", responses=api_errors.RESPONSES)
  by_name = {f"{OPTIMIZER}-{target.name}": target for target in service.targets}
  names = (OPTIMIZER, *service.aliases, *by_name, CHAT)
  models = {name: protocol.Model(id=name, created=service.created) for name in names}

  def find(name: str) -> protocol.Model:
    if name not in models:
      message = f"unknown model {name!r}; this server has {' and '.join(models)}"
      raise api_errors.ApiError(404, message, param="model", code="model_not_found")
    return models[name]

  @routes.get("/models/", include_in_schema=False)
  @routes.get("/models")
  async def list_models() -> protocol.Models:
    return protocol.Models(data=list(models.values()))

  @routes.get("/models/{model:path}")  # a name may contain slashes
  async def retrieve_model(model: str) -> protocol.Model:
    return find(model)

  async def respond(
    body: protocol.ChatRequest | protocol.CompletionRequest,
    request: fastapi.Request,
    prompts: Sequence[lm.Prompt],
    sampling: settings.Settings,
    form: _Format,
  ):
    running = service.generate(prompts, sampling, stops=body.stops())
    name = f"{form.id_prefix}-{uuid.uuid4().hex}"
    head = {"id": name, "created": int(time.time()), "model": body.model}
    if body.stream:
      head["object"] = form.chunk_object
      chunks = _chunks(running, head, form.chunk_choice, body.include_usage())
      return services.event_stream(chunks)
    candidates = await generation.until_disconnect(request, running.candidates())
    promises = promises_lib.Promises(target=by_name.get(body.model))
    choices = [form.choice(_fitting(one, promises)) for one in candidates]
    usage = _usage(running)
    return form.response(choices=choices, usage=usage, seed=sampling.seed, **head)

  @routes.post(
    "/chat/completions", response_model=protocol.Chat, responses=services.STREAMED
  )
  async def chat(body: protocol.ChatRequest, request: fastapi.Request):
    find(body.model)
    sampling = body.settings(service.limits)
    prompt = await _chat_prompt(service, body, _notes(by_name.get(body.model)))
    return await respond(body, request, [prompt], sampling, _CHAT)

  @routes.post(
    "/completions", response_model=protocol.Completion, responses=services.STREAMED
  )
  async def completions(body: protocol.CompletionRequest, request: fastapi.Request):
    find(body.model)
    sampling = body.settings(service.limits)
    prompts = await _text_prompts(service, body, _notes(by_name.get(body.model)))
    return await respond(body, request, prompts, sampling, _TEXT)

  return routes


def _notes(target: targets.Target | None) -> str:
  return target.profile.notes if target else ""


def _fitting(
  candidate: records.Candidate, promises: promises_lib.Promises
) -> records.Candidate:
  kept = promises.keep(candidate.prompt, problem=None if candidate.prompt else "empty")
  return dataclasses.replace(candidate, prompt=kept.prompt)


async def _chat_prompt(
  service: services.Service, body: protocol.ChatRequest, notes: str
) -> lm.Prompt:
  policy = service.policy
  if body.model != CHAT:
    query = messages.query(policy, body.messages)
    make = functools.partial(policy.prompt, notes=notes)
    return await service.render(make, query, "messages")
  turns = messages.turns(policy, body.messages)
  try:
    return await service.render(policy.chat, turns, "messages")
  except jinja2.TemplateError as error:  # for example "roles must alternate"
    message = f"the model's chat template rejects these messages: {error}"
    raise api_errors.ApiError(400, message, param="messages") from error


async def _text_prompts(
  service: services.Service, body: protocol.CompletionRequest, notes: str
) -> list[lm.Prompt]:
  policy, prompts = service.policy, []
  make = functools.partial(policy.prompt, notes=notes)
  for param, value in body.prompts():
    if isinstance(value, list):
      if body.model != CHAT:
        message = (
          f"{param}: only {CHAT} takes token ids, because they are a whole prompt"
        )
        raise api_errors.ApiError(400, message, param=param)
      prompts.append(await service.render(policy.from_tokens, value, param))
    elif body.model != CHAT:
      query = limits.check_user_text(policy, value, param)
      prompts.append(await service.render(make, query, param))
    else:
      limits.check_text(value, param)  # may contain special tokens
      prompts.append(await service.render(policy.text, value, param))
  return prompts


def _usage(running: generation.Generation) -> protocol.Usage:
  return protocol.Usage(
    prompt_tokens=running.prompt_tokens,
    completion_tokens=running.tokens,
    total_tokens=running.prompt_tokens + running.tokens,
  )


async def _chunks(
  running: generation.Generation,
  head: dict[str, Any],
  choice: _ChunkChoice,
  include_usage: bool,
) -> AsyncIterator[str]:
  head = head | {"seed": running.sampling.seed}
  if include_usage:
    head["usage"] = None  # in all chunks but the last, as in the OpenAI API

  def chunk(choices: list[dict[str, Any]], **fields: Any) -> str:
    return json.dumps(head | {"choices": choices} | fields)

  started: set[int] = set()
  async with contextlib.aclosing(running.deltas()) as deltas:
    async for delta in deltas:
      if delta.index not in started and choice is _chat_delta:
        started.add(delta.index)
        yield chunk([_chat_delta(delta.index, None, None)])
      if delta.text:
        yield chunk([choice(delta.index, delta.text, None)])
      if delta.finish_reason:
        yield chunk([choice(delta.index, "", delta.finish_reason)])
  if include_usage:
    yield chunk([], usage=_usage(running).model_dump())
  yield "[DONE]"


def _chat_delta(
  index: int, text: str | None, finish_reason: str | None
) -> dict[str, Any]:
  """A chat chunk's choice: first the role, then text, last the finish reason."""
  delta = {"content": text} if text else {}
  if text is None:
    delta = {"role": "assistant", "content": ""}
  return {"index": index, "delta": delta, "finish_reason": finish_reason}


def _text_delta(
  index: int, text: str | None, finish_reason: str | None
) -> dict[str, Any]:
  return {"index": index, "text": text or "", "finish_reason": finish_reason}


def _chat_choice(candidate: records.Candidate) -> protocol.ChatChoice:
  return protocol.ChatChoice(
    index=candidate.index,
    message=protocol.AssistantMessage(content=candidate.prompt),
    finish_reason=candidate.finish_reason,
  )


def _text_choice(candidate: records.Candidate) -> protocol.CompletionChoice:
  return protocol.CompletionChoice(
    index=candidate.index,
    text=candidate.prompt,
    finish_reason=candidate.finish_reason,
  )


_CHAT = _Format(
  "chatcmpl", "chat.completion.chunk", _chat_delta, _chat_choice, protocol.Chat
)
_TEXT = _Format(
  "cmpl", "text_completion", _text_delta, _text_choice, protocol.Completion
)
