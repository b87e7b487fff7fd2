"""Reads training rows from JSON and tokenizes them.

SFT rows are `{"messages": [..., assistant]}`. Preference rows are LLaMA-Factory's
`{"messages": [..., user], "chosen": assistant, "rejected": assistant}` or TRL's
`{"prompt": [..., user], "chosen": [assistant], "rejected": [assistant]}`.
"""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pydantic
from etils import epath

from vpo_jax import errors, records
from vpo_jax.data import chat


class Message(pydantic.BaseModel):
  role: Literal["system", "user", "assistant"]
  content: str


class _Row(pydantic.BaseModel):
  messages: list[Message] = pydantic.Field(
    min_length=1, validation_alias=pydantic.AliasChoices("messages", "prompt")
  )
  chosen: Message | list[Message] | None = None
  rejected: Message | list[Message] | None = None


@dataclasses.dataclass(frozen=True)
class Example:
  """A prompt with one response (SFT) or two (DPO).

  Attributes:
    id: hash of the row's text.
    prompt: token ids up to where the assistant's answer begins.
    responses: token ids with the end token; for DPO, chosen and rejected.
  """

  id: str
  prompt: np.ndarray
  responses: tuple[np.ndarray, ...]


def sft_row(content: str, prompt: str) -> dict[str, Any]:
  """A row whose user message is `content` and whose answer is `prompt`."""
  return {"messages": [_message("user", content), _message("assistant", prompt)]}


def preference_row(content: str, chosen: str, rejected: str) -> dict[str, Any]:
  """A row whose user message is `content`, with two answers."""
  return {
    "messages": [_message("user", content)],
    "chosen": _message("assistant", chosen),
    "rejected": _message("assistant", rejected),
  }


def _message(role: str, content: str) -> dict[str, str]:
  return {"role": role, "content": content}


def read(
  path: epath.PathLike,
  tokenizer: chat.Tokenizer,
  kind: Literal["sft", "dpo"],
  max_tokens: int,
  may_be_empty: bool = False,
) -> tuple[list[Example], list[records.SetAside]]:
  """Reads and tokenizes the rows of a JSON list or a JSON Lines file.

  Args:
    path: the file.
    tokenizer: of the model to train.
    kind: whether rows are SFT or preference rows.
    max_tokens: limit on the tokens of prompt and longest response together. Longer
      rows are set aside.
    may_be_empty: a file without any row is valid.

  Returns:
    the examples in file order, and the rows that were set aside, each with its reason.

  Raises:
    UserError: the file is missing or not JSON, or no row is usable.
  """
  path = epath.Path(path)
  examples, aside = [], []
  for where, row in _rows(path):
    text = json.dumps(row, ensure_ascii=False, sort_keys=True)
    try:
      example = _tokens(records.row_id(text), row, tokenizer, kind)
      length = len(example.prompt) + max(map(len, example.responses))
      if length > max_tokens:
        raise ValueError(f"{length} tokens, more than max_tokens={max_tokens}")
      examples.append(example)
    except ValueError as error:  # includes pydantic's ValidationError
      reason = f"{where}: {_first_line(error)}"
      aside.append(records.SetAside(records.row_id(text), text[:2000], reason))
  if not examples and (aside or not may_be_empty):
    why = f"; the first was set aside: {aside[0].reason}" if aside else ""
    raise errors.UserError(f"{path}: no usable {kind} row{why}")
  return examples, aside


def user_turns(path: epath.PathLike) -> list[str]:
  """The last user message of each row of a file, as in `read`.

  Raises:
    UserError: the file is missing or not JSON.
  """
  turns = []
  for _, row in _rows(epath.Path(path)):
    with contextlib.suppress(pydantic.ValidationError):
      said = [m.content for m in _Row.model_validate(row).messages if m.role == "user"]
      turns += said[-1:]
  return turns


def _rows(path: epath.Path) -> list[tuple[str, Any]]:
  if not path.exists():
    raise errors.UserError(f"{path}: no such file; first run the stage that writes it")
  text = path.read_text(encoding="utf-8")
  if text.lstrip().startswith("["):
    try:
      return [(f"row {i}", row) for i, row in enumerate(json.loads(text))]
    except json.JSONDecodeError as error:
      raise errors.UserError(f"{path}:{error.lineno}: {error.msg}") from error
  rows = []
  for number, line in enumerate(text.splitlines(), start=1):
    try:
      if line.strip():
        rows.append((f"line {number}", json.loads(line)))
    except json.JSONDecodeError as error:
      raise errors.UserError(f"{path}:{number}: {error.msg}") from error
  return rows


def _tokens(id: str, row: Any, tokenizer: chat.Tokenizer, kind: str) -> Example:
  parsed = _Row.model_validate(row)
  turns = parsed.messages
  if kind == "sft":
    *turns, answer = turns
    answers = [answer]
  else:
    answers = [_answer(parsed.chosen, "chosen"), _answer(parsed.rejected, "rejected")]
  for answer in answers:
    if answer.role != "assistant" or not answer.content.strip():
      raise ValueError("the response is empty or its role is not assistant")
  if not turns or turns[-1].role != "user":
    raise ValueError("the role of the last message before the response is not user")
  if len(answers) == 2 and answers[0].content == answers[1].content:
    raise ValueError("chosen and rejected are equal")
  prompt = chat.prompt_tokens(tokenizer, [turn.model_dump() for turn in turns])
  responses = tuple(
    np.asarray(chat.response_tokens(tokenizer, answer.content), np.int32)
    for answer in answers
  )
  return Example(id, np.asarray(prompt, np.int32), responses)


def _answer(value: Message | list[Message] | None, name: str) -> Message:
  if isinstance(value, list):
    value = value[0] if len(value) == 1 else None
  if value is None:
    raise ValueError(f"{name} must be one assistant message")
  return value


def _first_line(error: ValueError) -> str:
  if isinstance(error, pydantic.ValidationError):
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
  return str(error)


def common_stem(examples: Sequence[Example]) -> np.ndarray:
  """The longest common prefix of all prompts, without any prompt's last token.

  It is a prefix of token ids: a token that spans the boundary of the common text is not
  part of it. The last token of a prompt is left out because it predicts the response's
  first token.
  """
  first = examples[0].prompt
  length = min(len(example.prompt) for example in examples) - 1
  for example in examples:
    differs = np.nonzero(example.prompt[:length] != first[:length])[0]
    length = int(differs[0]) if differs.size else length
  return first[:length]
