"""Types of request fields, and why a value does not have the type."""

from typing import Annotated, Any

import pydantic
import pydantic_core

_STOPS = 4  # as in the OpenAI API
_STOP_SIZE = 1024
_KEPT = 16

Count = Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, pydantic.Field(ge=-(2**63), le=2**63 - 1)]
Temperature = Annotated[float, pydantic.Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, pydantic.Field(ge=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, pydantic.Field(ge=-1, le=2**31 - 1)]  # vLLM: -1 for all tokens


def _check_texts(value: Any) -> Any:
  """Explains what a union of a string and a list of strings does not accept."""
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    raise _invalid(f"must be a string or a list of strings, not {_kind(value)}")
  for number, text in enumerate(value, start=1):
    if not isinstance(text, str):
      raise _invalid(f"item {number} must be a string, not {_kind(text)}")
  return value


def _check_stop(value: Any) -> Any:
  if value is None:
    return None
  texts = _check_texts(value)
  texts = [texts] if isinstance(texts, str) else texts
  if len(texts) > _STOPS:
    raise _invalid(f"{len(texts)} texts; at most {_STOPS} are allowed")
  for text in texts:
    if not text:
      raise _invalid("an empty text is not allowed; omit it")
    if len(text) > _STOP_SIZE:
      raise _invalid(f"a text has {len(text)} characters; at most {_STOP_SIZE} may be")
  return value


def _check_keep(value: Any) -> Any:
  if value is None:
    return None
  if not isinstance(value, list):
    raise _invalid(f"must be a list of strings, not {_kind(value)}")
  if len(value) > _KEPT:
    raise _invalid(f"{len(value)} texts; at most {_KEPT} are allowed")
  for number, text in enumerate(_check_texts(value), start=1):
    if not text.strip() or "\n" in text or len(text) > _STOP_SIZE:
      raise _invalid(f"item {number} must be one line of 1 to {_STOP_SIZE} characters")
  return value


def _check_prompt(value: Any) -> Any:
  if value == []:
    raise _invalid("the list is empty")
  if _is_tokens(value) or (isinstance(value, list) and all(map(_is_tokens, value))):
    return value
  return _check_texts(value)


def _is_tokens(value: Any) -> bool:
  """Whether it is a list of token ids."""
  return (
    isinstance(value, list)
    and bool(value)
    and all(type(token) is int and token >= 0 for token in value)
  )


def _kind(value: Any) -> str:
  if isinstance(value, bool | int | float):
    return "a boolean" if isinstance(value, bool) else "a number"
  return "null" if value is None else {list: "a list"}.get(type(value), "an object")


def _invalid(message: str) -> pydantic_core.PydanticCustomError:
  # As a context value, since braces in a message would be taken for placeholders.
  return pydantic_core.PydanticCustomError(
    "invalid_value", "{message}", {"message": message}
  )


_Stop = Annotated[str, pydantic.Field(min_length=1, max_length=_STOP_SIZE)]
Stop = Annotated[
  _Stop | Annotated[list[_Stop], pydantic.Field(max_length=_STOPS)] | None,
  pydantic.BeforeValidator(_check_stop),
]
Keep = Annotated[
  Annotated[list[str], pydantic.Field(max_length=_KEPT)] | None,
  pydantic.BeforeValidator(_check_keep),
]
Prompts = Annotated[
  str
  | Annotated[list[str], pydantic.Field(min_length=1)]
  | Annotated[list[int], pydantic.Field(min_length=1)]
  | Annotated[list[list[int]], pydantic.Field(min_length=1)],
  pydantic.BeforeValidator(_check_prompt),
]
