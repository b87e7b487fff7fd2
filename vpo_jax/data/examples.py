"""Reads training rows and tokenizes them."""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from etils import epath

from vpo_jax import errors, json_input, records
from vpo_jax.data import chat, forms


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
  chat_format: chat.Format,
  kind: forms.Kind,
  max_tokens: int,
  may_be_empty: bool = False,
) -> tuple[list[Example], list[records.SetAside]]:
  """Reads and tokenizes the rows of a JSON list or a JSON Lines file.

  Args:
    path: the file; `forms` lists the forms of its rows.
    chat_format: of the model to train.
    kind: whether rows are SFT or preference rows.
    max_tokens: limit on the tokens of prompt and longest response together. Longer
      rows are set aside.
    may_be_empty: a file without any row is valid.

  Returns:
    the examples in file order, and the rows that were set aside, each with its reason.

  Raises:
    UserError: the file is missing, is not UTF-8 text or JSON, or no row is usable.
  """
  examples, aside = [], []
  for row in json_input.rows(path):
    text = json.dumps(row.value, ensure_ascii=False, sort_keys=True)
    identity = records.row_id(text)
    try:
      if row.problem:
        raise ValueError(row.problem)
      example = tokens(identity, forms.parse(row.value, kind), chat_format)
      length = len(example.prompt) + max(map(len, example.responses))
      if length > max_tokens:
        raise ValueError(f"{length} tokens, more than max_tokens={max_tokens}")
      examples.append(example)
    except (ValueError, jinja2.TemplateError) as error:
      reason = f"{row.place}: {_reason(error)}"
      aside.append(records.SetAside(identity, text[:2000], reason))
  if not examples and (aside or not may_be_empty):
    why = f"; the first was set aside: {aside[0].reason}" if aside else ""
    raise errors.UserError(f"{path}: no usable {kind} row{why}")
  return examples, aside


def queries(path: epath.PathLike) -> list[str]:
  """The last user message of each row of a file that is a row of either kind.

  Raises:
    UserError: the file is missing, or is not UTF-8 text or JSON.
  """
  found = []
  for row in json_input.rows(path):
    kind = "dpo" if isinstance(row.value, dict) and "chosen" in row.value else "sft"
    with contextlib.suppress(ValueError):
      found.append(forms.parse(row.value, kind).query)
  return found


def tokens(id: str, row: forms.Row, chat_format: chat.Format) -> Example:
  """A row as tokens.

  Raises:
    ValueError, jinja2.TemplateError: the chat template refuses the row.
  """
  if isinstance(row.prompt, str):
    prompt, responses = chat_format.plain_example(row.prompt, row.responses)
  else:
    prompt, responses = chat_format.example(row.prompt, row.responses)
  arrays = [np.asarray(ids, np.int32) for ids in (prompt, *responses)]
  return Example(id, arrays[0], tuple(arrays[1:]))


def _reason(error: Exception) -> str:
  if isinstance(error, jinja2.TemplateError):
    return f"the chat template refuses it: {error}"
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
