"""The forms of training rows that are read: TRL's and LLaMA-Factory's.

| form | SFT | preferences: chosen, rejected and |
|---|---|---|
| messages (OpenAI, LLaMA-Factory) | `messages` | `messages` |
| TRL, conversational | `prompt`, `completion` | `prompt` |
| TRL, conversations | | nothing or `prompt`; each is a conversation |
| TRL, plain text | `prompt`, `completion` | `prompt` |
| alpaca | `instruction`, `input`, `output` | `instruction`, `input` |
| sharegpt | `conversations` | `conversations` |

Alpaca rows may have `history`; all but plain text may have `system`. A message is
{"role", "content"} or sharegpt's {"from", "value"}; its content is a text or a list of
text parts. The last answer of a conversation is the response; earlier answers belong to
the prompt, and are not trained. A column with a null value counts as missing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["sft", "dpo"]
Turn = dict[str, str]

FORMS: Mapping[Kind, str] = {
  "sft": "messages; prompt and completion; instruction and output; or conversations",
  "dpo": "chosen and rejected, with messages, prompt, instruction or conversations, or"
  " as two conversations",
}

_ROLES = {
  "system": "system",
  "user": "user",
  "assistant": "assistant",
  "human": "user",
  "gpt": "assistant",
}
# What would change the tokens or the meaning of a row, and is not read.
_UNREAD_COLUMNS = (
  "tools",
  "image",
  "images",
  "video",
  "videos",
  "audio",
  "audios",
  "chat_template_kwargs",
  "kto_tag",  # LLaMA-Factory: whether the answer is a good one
  "label",  # TRL: the same
)
_UNREAD_KEYS = (
  "tool_calls",
  "function_call",
  "reasoning_content",
  "reasoning",
  "thinking",
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A training row of any form.

  Attributes:
    prompt: the turns before the answer, the last of which is the user's; or a plain
      text, for which no chat template is used.
    responses: the answer; for preferences, the chosen and the rejected one.
  """

  prompt: tuple[Turn, ...] | str
  responses: tuple[str, ...]

  @property
  def query(self) -> str:
    """The last user turn, or the plain text."""
    return self.prompt if isinstance(self.prompt, str) else self.prompt[-1]["content"]


def parse(value: Any, kind: Kind) -> Row:
  """Reads one row.

  Raises:
    ValueError: the row has none of the forms, or several, or contains what is not read.
  """
  if not isinstance(value, dict):
    raise ValueError(f"not a JSON object; rows have {FORMS[kind]}")
  row = {name: found for name, found in value.items() if found is not None}
  for name in _UNREAD_COLUMNS:
    if row.get(name) not in (None, [], {}, ""):
      raise ValueError(f"has {name}, which is not read")
  parsed = _sft(row) if kind == "sft" else _preferences(row)
  if any(not response.strip() for response in parsed.responses):
    raise ValueError("the response is empty")
  if isinstance(parsed.prompt, tuple):
    if not parsed.prompt or parsed.prompt[-1]["role"] != "user":
      raise ValueError("the message before the response is not a user's")
    if (
      row.get("system") and [turn["role"] for turn in parsed.prompt].count("system") > 1
    ):
      raise ValueError("has a system message and the column system")
  elif row.get("system"):
    raise ValueError("has system, but a plain text has no chat template to write it")
  if not parsed.query.strip():
    raise ValueError("the prompt is empty")
  if len(parsed.responses) == 2 and parsed.responses[0] == parsed.responses[1]:
    raise ValueError("chosen and rejected are equal")
  return parsed


def _sft(row: dict[str, Any]) -> Row:
  forms = [
    name
    for name, answer in (
      ("messages", None),
      ("prompt", "completion"),
      ("instruction", "output"),
      ("conversations", None),
    )
    if name in row and (answer is None or answer in row)
  ]
  name = _only(forms, "sft")
  if name == "instruction":
    return Row(_alpaca(row), (_text(row["output"], "output"),))
  if name == "prompt":
    if isinstance(row["prompt"], str) and isinstance(row["completion"], str):
      return Row(row["prompt"], (row["completion"],))
    prompt = _system(row) + _turns(row["prompt"], "prompt")
    return Row(prompt, (_answer(row["completion"], "completion"),))
  *turns, answer = _turns(row[name], name)
  return Row((*_system(row), *turns), (_response(answer, name),))


def _preferences(row: dict[str, Any]) -> Row:
  if "chosen" not in row or "rejected" not in row:
    raise ValueError(f"chosen or rejected is missing; rows have {FORMS['dpo']}")
  if _is_conversation(row["chosen"]) or _is_conversation(row["rejected"]):
    return _conversations(row)
  names = ("messages", "prompt", "instruction", "conversations")
  name = _only([name for name in names if name in row], "dpo")
  pair = row["chosen"], row["rejected"]
  texts = all(isinstance(one, str) for one in pair)
  if name == "instruction" and texts:
    return Row(_alpaca(row), pair)
  if name == "prompt" and texts and isinstance(row["prompt"], str):
    return Row(row["prompt"], pair)
  answers = _answer(pair[0], "chosen"), _answer(pair[1], "rejected")
  turns = _alpaca(row) if name == "instruction" else _turns(row[name], name)
  return Row((*(() if name == "instruction" else _system(row)), *turns), answers)


def _conversations(row: dict[str, Any]) -> Row:
  """Two conversations that differ in their last message only.

  They are whole ones or, as in TRL, continue the messages of `prompt`.
  """
  *chosen, good = _turns(row["chosen"], "chosen")
  *rejected, bad = _turns(row["rejected"], "rejected")
  if chosen != rejected:
    raise ValueError("chosen and rejected differ before their last message")
  for name in ("prompt", "messages", "conversations"):
    before = row.get(name)
    if isinstance(before, str):
      if not any(before.strip() in turn["content"] for turn in chosen):
        raise ValueError(f"has whole conversations, which do not contain {name}")
    elif before is not None:
      turns = list(_turns(before, name))
      if [*chosen, good][: len(turns)] == turns:
        continue
      if name != "prompt":
        raise ValueError(f"has whole conversations, which do not begin with {name}")
      chosen = [*turns, *chosen]
  answers = _response(good, "chosen"), _response(bad, "rejected")
  return Row((*_system(row), *chosen), answers)


def _is_conversation(value: Any) -> bool:
  return isinstance(value, list) and len(value) > 1


def _only(forms: list[str], kind: Kind) -> str:
  if not forms:
    raise ValueError(f"none of the forms that are read: {FORMS[kind]}")
  if len(forms) > 1:
    raise ValueError(f"has {' and '.join(forms)}; which is the row's text is not clear")
  return forms[0]


def _alpaca(row: dict[str, Any]) -> tuple[Turn, ...]:
  """System turn, earlier turns, and instruction and input on lines of their own."""
  turns = list(_system(row))
  history = row.get("history", [])
  if not isinstance(history, list) or not all(map(_is_two, history)):
    raise ValueError("history is not a list of pairs of texts")
  for pair in history:
    for role, text in zip(("user", "assistant"), pair, strict=True):
      turns.append({"role": role, "content": _text(text, "history")})
  parts = [_text(row[name], name) for name in ("instruction", "input") if name in row]
  content = "\n".join(part for part in parts if part)
  return (*turns, {"role": "user", "content": content})


def _is_two(value: Any) -> bool:
  return isinstance(value, list) and len(value) == 2


def _system(row: dict[str, Any]) -> tuple[Turn, ...]:
  text = _text(row.get("system", ""), "system")
  return ({"role": "system", "content": text},) if text else ()


def _turns(value: Any, name: str) -> tuple[Turn, ...]:
  if not isinstance(value, list) or not value:
    raise ValueError(f"{name} is not a list of messages")
  return tuple(_turn(message, name) for message in value)


def _turn(message: Any, name: str) -> Turn:
  if not isinstance(message, dict):
    raise ValueError(f"{name} has a message that is not a JSON object")
  for key in _UNREAD_KEYS:
    if message.get(key):
      raise ValueError(f"a message of {name} has {key}, which is not read")
  if message.get("weight", 1) == 0:
    raise ValueError(f"a message of {name} has weight 0, which is not read")
  keys = ("from", "value") if "from" in message else ("role", "content")
  role, content = (message.get(key) for key in keys)
  if not isinstance(role, str) or role not in _ROLES:
    raise ValueError(f"{name} has a message with {keys[0]} {role!r}, which is not read")
  return {"role": _ROLES[role], "content": _text(content, f"{keys[1]} in {name}")}


def _answer(value: Any, name: str) -> str:
  """The text of one assistant message, given alone or in a list."""
  if isinstance(value, list):
    if len(value) != 1:
      raise ValueError(f"{name} has {len(value)} messages instead of one")
    value = value[0]
  if isinstance(value, str):
    raise ValueError(f"{name} is a text, but the prompt is a list of messages")
  return _response(_turn(value, name), name)


def _response(turn: Turn, name: str) -> str:
  if turn["role"] != "assistant":
    raise ValueError(f"the last message of {name} is not the assistant's")
  return turn["content"]


def _text(value: Any, name: str) -> str:
  """A text, or the joined texts of a list of parts."""
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    raise ValueError(f"{name} is not a text")
  for part in value:
    if not isinstance(part, dict) or part.get("type") != "text":
      kind = part.get("type") if isinstance(part, dict) else part
      raise ValueError(f"{name} has a part of type {kind!r}; only text is read")
  return "".join(_text(part.get("text"), name) for part in value)
