"""Reads a chat completion: the answer without the reasoning, and why it ended.

Reasoning is removed wherever servers put it: in fields of its own, in typed parts of
the content, or between tags in the text. Needs the standard library only.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from torch_bridge import api_errors

# Tags that models write by their chat templates, as the reasoning parsers of vLLM and
# SGLang know them: DeepSeek, Qwen, GLM and most others, with a prefix Seed-OSS and
# MiniMax; Mistral; Kimi; Cohere; gpt-oss (harmony); Gemma. The opening tag may be part
# of the chat template, and so be missing from the reply.
_CLOSED = re.compile(
  r"</(?:\w+:)?think>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>"
  r"|<\|channel\|>final<\|message\|>|<channel\|>",
  re.IGNORECASE,
)
# Tags that other models (EXAONE and Gemini: thought) and users' prompts use. They may
# also follow an answer, so only what stands between them is removed.
_NAMES = "thinking|reasoning|thoughts?|reflection|scratchpad|analysis"
_BLOCK = re.compile(rf"<({_NAMES})>.*?</\1>", re.IGNORECASE | re.DOTALL)
_NAMED_CLOSED = re.compile(rf"</(?:{_NAMES})>", re.IGNORECASE)
_OPENED = re.compile(
  rf"<(?:(?:\w+:)?think|{_NAMES})>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
  r"|<\|channel\|>analysis<\|message\|>|<\|channel>thought",
  re.IGNORECASE,
)
_ENDS = re.compile(r"<\|(?:return|end|START_RESPONSE|END_RESPONSE)\|>")
_REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "thinking")

# Finish reasons in lower case and without `_`: of OpenAI, Anthropic, Gemini, Bedrock,
# Mistral, DeepSeek, Zhipu, Cohere, vLLM and OpenRouter.
_FINISH_REASONS = {
  "content_filter": {
    "blocklist",
    "contentfilter",
    "contentfiltered",
    "errortoxic",
    "guardrailintervened",
    "imageprohibitedcontent",
    "imagerecitation",
    "imagesafety",
    "prohibitedcontent",
    "recitation",
    "refusal",
    "safety",
    "sensitive",
    "spii",
  },
  "length": {
    "length",
    "maxlength",
    "maxoutputtokens",
    "maxtokens",
    "modelcontextwindowexceeded",
    "modellength",
  },
  "error": {
    "abort",
    "aborted",
    "cancelled",
    "error",
    "insufficientsystemresource",
    "networkerror",
  },
}
# Where Azure and Gemini say that a filter stopped the prompt.
_PROMPT_FILTERS = ("promptFeedback", "prompt_feedback", "prompt_filter_results")
_ERROR_FIELDS = {"message", "msg", "detail", "code"}
_USAGE = ("usage", "usageMetadata", "usage_metadata")
# OpenAI's names; Anthropic's; Gemini's; Bedrock's; Ollama's.
_COUNTS = (
  (
    "prompt_tokens",
    "input_tokens",
    "promptTokenCount",
    "prompt_token_count",
    "inputTokens",
    "prompt_eval_count",
  ),
  (
    "completion_tokens",
    "output_tokens",
    "candidatesTokenCount",
    "candidates_token_count",
    "outputTokens",
    "eval_count",
  ),
  ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens"),
)


@dataclasses.dataclass(frozen=True)
class Reply:
  """A model's reply.

  Attributes:
    text: the answer, or the refusal; never the reasoning.
    finish_reason: "stop", "length" if it was cut off at the token limit, or
      "content_filter".
    refusal: whether the model, or a content filter, declined.
    reasoned: whether the reply has reasoning.
    token_logprobs: log-probabilities by token, as the server sent them.
  """

  text: str
  finish_reason: str = "stop"
  refusal: bool = False
  prompt_tokens: int = 0
  completion_tokens: int = 0
  reasoned: bool = False
  token_logprobs: tuple[dict[str, Any], ...] = ()


def read(body: object) -> Reply:
  """Returns the reply in the JSON of a chat completion.

  A reply without an answer, such as one that was cut off while the model reasoned, is
  returned with the text "", since its tokens were spent.

  Raises:
    ServerError: it is an error, or something else; a proxy or a broken server may send
      anything.
  """
  fields = _dict(body[0] if isinstance(body, list) and body else body)
  choices = fields.get("choices")
  choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
  message = _dict(choice.get("message"))
  content, refusal = _content(message)
  text, cut = answer(content)
  prompt_tokens, completion_tokens = _tokens(fields)
  reply = Reply(
    text=text,
    finish_reason=_finish_reason(choice),
    prompt_tokens=prompt_tokens,
    completion_tokens=completion_tokens,
    reasoned=_has_reasoning(message) or text != api_errors.well_formed(content),
    token_logprobs=_token_logprobs(choice),
  )
  error = _error(fields, choice)
  filtered = reply.finish_reason == "content_filter"
  if error and error.kind is api_errors.Kind.REFUSED:
    refusal = refusal or error.message
  elif error:
    raise api_errors.ServerError(error)
  elif not text:  # an annotation beside an answer stopped nothing
    filtered |= api_errors.is_filtered(*[fields.get(key) for key in _PROMPT_FILTERS])
    filtered |= api_errors.is_filtered(choice.get("content_filter_results"))
  if refusal or filtered:
    reason = "content_filter" if filtered or error else "stop"
    text = api_errors.well_formed(refusal) or text
    return dataclasses.replace(reply, text=text, finish_reason=reason, refusal=True)
  spent = completion_tokens > 0 or reply.reasoned or reply.finish_reason == "length"
  answered = isinstance(message.get("content"), str | list | dict) or spent
  if reply.finish_reason == "error" or not answered:
    raise api_errors.ServerError(_invalid(body))
  if cut and not choice.get("finish_reason"):
    return dataclasses.replace(reply, finish_reason="length")
  return reply


def answer(text: str) -> tuple[str, bool]:
  """Returns text without the reasoning, and whether the reasoning was cut off.

  The answer is what follows the last block of reasoning. Nothing after a tag that was
  never closed is an answer.
  """
  whole = rest = api_errors.well_formed(text)
  rest = _CLOSED.split(rest)[-1]
  rest = _NAMED_CLOSED.split(_BLOCK.sub("", rest))[-1]
  opened = _OPENED.search(rest)
  if opened:
    rest = rest[: opened.start()]
  if rest != whole:
    rest = _ENDS.sub("", rest).strip()
  return rest, opened is not None


def _content(message: dict[str, Any]) -> tuple[str, str]:
  """The text of a message's content, and its refusal."""
  content = message.get("content")
  parts = content if isinstance(content, list) else [content]
  texts, refusals = [], [message.get("refusal")]
  for part in parts:
    if isinstance(part, str):
      texts.append(part)
    elif isinstance(part, dict) and not part.get("thought"):
      refusals.append(part.get("refusal"))
      if part.get("type", "text") in ("text", "output_text"):
        text = part.get("text")
        texts.append(text.get("value") if isinstance(text, dict) else text)
  refusal = next((str(refusal) for refusal in refusals if refusal), "")
  return "".join(text for text in texts if isinstance(text, str)), refusal


def _has_reasoning(message: dict[str, Any]) -> bool:
  """Whether a message has reasoning in fields or parts of its own."""
  parts = message.get("content")
  kinds = [_dict(part) for part in parts] if isinstance(parts, list) else []
  typed = any("think" in str(p.get("type")) or p.get("thought") for p in kinds)
  return typed or any(message.get(key) for key in _REASONING_FIELDS)


def _finish_reason(choice: dict[str, Any]) -> str:
  """The reason in OpenAI's words, or "error" if the reply is not complete.

  Gateways add their provider's own word, in the same field ("content_filter: SAFETY")
  or in another.
  """
  words = set()
  for key in ("finish_reason", "native_finish_reason"):
    for word in re.split(r"[^A-Za-z_-]+", str(choice.get(key) or "")):
      words.add(re.sub(r"[_-]", "", word.lower()).removeprefix("finishreason"))
  for reason, known in _FINISH_REASONS.items():
    if not words.isdisjoint(known):
      return reason
  return "stop"


def _error(fields: dict[str, Any], choice: dict[str, Any]) -> api_errors.Error | None:
  """The error in the body of a response with status 200."""
  error = fields.get("error") or choice.get("error")
  if isinstance(error, dict) and not any(error.values()):
    error = None  # some servers send an empty one with every reply
  if not error and not fields.get("choices") and _ERROR_FIELDS & fields.keys():
    error = fields
  return api_errors.read(200, error) if error else None


def _invalid(body: object) -> api_errors.Error:
  line = api_errors.one_line(body, limit=4000)
  line = f"the reply is not a chat completion ({line})"
  return api_errors.Error(api_errors.Kind.BUSY, 200, line)


def _tokens(fields: dict[str, Any]) -> tuple[int, int]:
  """The prompt's and the reply's tokens, reasoning included; 0 if not reported."""
  usage = next((_dict(fields[key]) for key in _USAGE if fields.get(key)), fields)
  prompt, completion, total = (
    next((_count(usage[key]) for key in keys if usage.get(key)), 0) for keys in _COUNTS
  )
  # Some servers count reasoning in the total only (xAI, Gemini).
  if prompt:
    return prompt, max(completion, total - prompt)
  return max(0, total - completion), completion


def _count(value: object) -> int:
  try:
    return max(0, int(value)) if isinstance(value, int | float | str) else 0
  except (ValueError, OverflowError):
    return 0


def _token_logprobs(choice: dict[str, Any]) -> tuple[dict[str, Any], ...]:
  tokens = _dict(choice.get("logprobs")).get("content")
  return tuple(_dict(token) for token in tokens) if isinstance(tokens, list) else ()


def _dict(value: object) -> dict[str, Any]:
  return value if isinstance(value, dict) else {}
