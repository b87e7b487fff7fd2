"""The OpenAI API: chat, completions and models.

Two models are served by the same weights. `vpo` is the optimizer: what the user said
last is a query, and goes into the instruction that the model was trained with.
`vpo-chat` is the model as it is: messages go into its chat template, a completion's
prompt goes in as it stands.
"""

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import fastapi
import jinja2

from vpo_jax import records
from vpo_jax.sample import lm, settings
from vpo_jax.serve import answers, limits, protocol, refusals
from vpo_jax.serve import service as services

OPTIMIZER = "vpo"
CHAT = "vpo-chat"

# A choice of a streamed answer: (index, text or None, finish reason or None).
_Piece = Callable[[int, str | None, str | None], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Form:
  """How one of the two endpoints answers: ids, choices, and pieces of a stream."""

  prefix: str
  streamed: str
  piece: _Piece
  choice: Callable[[records.Candidate], protocol.Choice]
  whole: Callable[..., protocol.Answer]


def router(service: services.Service) -> fastapi.APIRouter:
  routes = fastapi.APIRouter(prefix="/v1", responses=refusals.DECLARED)
  names = (OPTIMIZER, *service.aliases, CHAT)
  models = {name: protocol.Model(id=name, created=service.began) for name in names}

  def known(name: str) -> protocol.Model:
    if name not in models:
      message = f"no model {name!r} here; there are {' and '.join(models)}"
      raise refusals.Refusal(404, message, param="model", code="model_not_found")
    return models[name]

  @routes.get("/models")
  async def list_models() -> protocol.Models:
    return protocol.Models(data=list(models.values()))

  @routes.get("/models/{model}")
  async def retrieve_model(model: str) -> protocol.Model:
    return known(model)

  async def reply(
    asked: protocol.ChatRequest | protocol.CompletionRequest,
    request: fastapi.Request,
    prompt: lm.Prompt,
    wanted: settings.Settings,
    form: _Form,
  ):
    answer = service.ask(prompt, wanted, stops=asked.stops())
    name = f"{form.prefix}-{uuid.uuid4().hex}"
    head = {"id": name, "created": int(time.time()), "model": asked.model}
    if asked.stream:
      head["object"] = form.streamed
      return services.events(_chunks(answer, head, form.piece, asked.usage_wanted()))
    made = await answers.unless_gone(request, answer.whole())
    choices = [form.choice(one) for one in made]
    usage = _usage(answer)
    return form.whole(choices=choices, usage=usage, seed=wanted.seed, **head)

  @routes.post(
    "/chat/completions", response_model=protocol.Chat, responses=services.STREAMED
  )
  async def chat(asked: protocol.ChatRequest, request: fastapi.Request):
    known(asked.model)
    wanted = asked.settings(service.limits)
    prompt = await _chat_prompt(service, asked)
    return await reply(asked, request, prompt, wanted, _CHAT)

  @routes.post(
    "/completions", response_model=protocol.Completion, responses=services.STREAMED
  )
  async def completions(asked: protocol.CompletionRequest, request: fastapi.Request):
    known(asked.model)
    wanted = asked.settings(service.limits)
    prompt = await _text_prompt(service, asked)
    return await reply(asked, request, prompt, wanted, _TEXT)

  return routes


async def _chat_prompt(
  service: services.Service, asked: protocol.ChatRequest
) -> lm.Prompt:
  policy = service.policy
  if asked.model != CHAT:
    said = [m.text() for m in asked.messages if m.role == "user"]
    if not said:
      message = f"{OPTIMIZER} wants a message of the user: the query"
      raise refusals.Refusal(400, message, param="messages")
    query = limits.unmarked(policy, said[-1], "messages")
    return await service.prompt(policy.prompt, query)
  turns = [
    {
      "role": "system" if message.role == "developer" else message.role,
      "content": limits.unmarked(policy, message.text(), "messages"),
    }
    for message in asked.messages
  ]
  try:
    return await service.prompt(policy.chat, turns)
  except jinja2.TemplateError as error:  # "roles must alternate", say some
    message = f"the model's chat template refuses these messages: {error}"
    raise refusals.Refusal(400, message, param="messages") from error


async def _text_prompt(
  service: services.Service, asked: protocol.CompletionRequest
) -> lm.Prompt:
  policy = service.policy
  if asked.model != CHAT:
    query = limits.unmarked(policy, asked.text(), "prompt")
    return await service.prompt(policy.prompt, query)
  text = limits.plain(asked.text(), "prompt")  # markers are the client's own
  return await service.prompt(policy.text, text)


def _usage(answer: answers.Answer) -> protocol.Usage:
  prompt = len(answer.prompt.tokens)
  return protocol.Usage(
    prompt_tokens=prompt,
    completion_tokens=answer.tokens,
    total_tokens=prompt + answer.tokens,
  )


async def _chunks(
  answer: answers.Answer, head: dict[str, Any], choice: _Piece, usage_wanted: bool
) -> AsyncIterator[str]:
  head = head | {"seed": answer.wanted.seed}

  def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
    return json.dumps(head | {"choices": choices} | more)

  begun: set[int] = set()
  async with contextlib.aclosing(answer.pieces()) as pieces:
    async for piece in pieces:
      if piece.index not in begun and choice is _delta:
        begun.add(piece.index)
        yield chunk([_delta(piece.index, None, None)])
      if piece.text:
        yield chunk([choice(piece.index, piece.text, None)])
      if piece.finish_reason:
        yield chunk([choice(piece.index, "", piece.finish_reason)])
  if usage_wanted:
    yield chunk([], usage=_usage(answer).model_dump())
  yield "[DONE]"


def _delta(index: int, text: str | None, finish_reason: str | None) -> dict[str, Any]:
  """A chat's choice: the role first, then text, then the reason alone."""
  delta = {"content": text} if text else {}
  if text is None:
    delta = {"role": "assistant", "content": ""}
  return {"index": index, "delta": delta, "finish_reason": finish_reason}


def _text(index: int, text: str | None, finish_reason: str | None) -> dict[str, Any]:
  return {"index": index, "text": text or "", "finish_reason": finish_reason}


def _message(one: records.Candidate) -> protocol.ChatChoice:
  return protocol.ChatChoice(
    index=one.index,
    message=protocol.Spoken(content=one.prompt),
    finish_reason=one.finish_reason,
  )


def _plain(one: records.Candidate) -> protocol.CompletionChoice:
  return protocol.CompletionChoice(
    index=one.index, text=one.prompt, finish_reason=one.finish_reason
  )


_CHAT = _Form("chatcmpl", "chat.completion.chunk", _delta, _message, protocol.Chat)
_TEXT = _Form("cmpl", "text_completion", _text, _plain, protocol.Completion)
