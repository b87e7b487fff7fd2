"""Chat text and tokens, by the model's own tokenizer and chat template."""

import json
from typing import Any, Protocol, runtime_checkable

from etils import epath

from vpo_jax import errors


@runtime_checkable
class Tokenizer(Protocol):
  """The part of a transformers tokenizer that this project uses."""

  eos_token_id: int
  chat_template: Any
  added_tokens_decoder: Any

  def apply_chat_template(
    self, conversation: list[dict[str, str]], **how: Any
  ) -> Any: ...

  def __call__(self, text: str, **how: Any) -> Any: ...

  def decode(self, token_ids: Any, **how: Any) -> Any: ...

  def save_pretrained(self, save_directory: str, **how: Any) -> Any: ...


def load_tokenizer(folder: epath.PathLike) -> Tokenizer:
  """Loads the tokenizer of a model directory.

  Raises:
    UserError: there is none, or it has no chat template or end token.
  """
  try:
    tokenizer = _tokenizer_class(folder).from_pretrained(str(folder))
  except (OSError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise errors.UserError(f"{folder}: no usable tokenizer: {reason}") from error
  if tokenizer.chat_template is None:
    raise errors.UserError(f"{folder}: the tokenizer has no chat template")
  if tokenizer.eos_token_id is None:
    raise errors.UserError(f"{folder}: the tokenizer has no end token")
  return tokenizer


def _tokenizer_class(folder: epath.PathLike) -> Any:
  """AutoTokenizer, or what it would choose where that is plain: it imports torch."""
  import transformers

  path = epath.Path(folder) / "tokenizer_config.json"
  named = json.loads(path.read_text()).get("tokenizer_class") if path.exists() else None
  plain = named in ("PreTrainedTokenizerFast", "TokenizersBackend")
  if plain and (epath.Path(folder) / "tokenizer.json").exists():
    return transformers.PreTrainedTokenizerFast
  return transformers.AutoTokenizer


def render(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> str:
  """The text given to the model: the turns, and the opening of the assistant's."""
  return tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True
  )


def prompt_tokens(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> list[int]:
  """Tokens of `render`; the template writes the special tokens itself."""
  return tokenizer(render(tokenizer, messages), add_special_tokens=False).input_ids


def response_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
  """Tokens of an assistant's answer with the end token.

  Tokenized apart from the prompt, as it is when the model writes it.
  """
  ids = tokenizer(text, add_special_tokens=False).input_ids
  return [*ids, tokenizer.eos_token_id]
