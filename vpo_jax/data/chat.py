"""Text and tokens of chats, by the model's tokenizer and chat template."""

import json
from typing import Any, Protocol, runtime_checkable

from etils import epath

from vpo_jax import errors


@runtime_checkable
class Tokenizer(Protocol):
  """The part of transformers' tokenizer interface that this project uses."""

  eos_token_id: int
  chat_template: Any
  added_tokens_decoder: Any

  def apply_chat_template(
    self, conversation: list[dict[str, str]], **options: Any
  ) -> Any: ...

  def __call__(self, text: str, **options: Any) -> Any: ...

  def decode(self, token_ids: Any, **options: Any) -> Any: ...

  def save_pretrained(self, save_directory: str, **options: Any) -> Any: ...


def load_tokenizer(folder: epath.PathLike) -> Tokenizer:
  """Loads the tokenizer of a model directory.

  Raises:
    UserError: there is no tokenizer, or it has no chat template or end token.
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
  """The tokenizer's class; AutoTokenizer, which imports torch, only if necessary."""
  import transformers

  path = epath.Path(folder) / "tokenizer_config.json"
  name = json.loads(path.read_text()).get("tokenizer_class") if path.exists() else None
  fast = name in ("PreTrainedTokenizerFast", "TokenizersBackend")
  if fast and (epath.Path(folder) / "tokenizer.json").exists():
    return transformers.PreTrainedTokenizerFast
  return transformers.AutoTokenizer


def render(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> str:
  """The chat as text, up to where the assistant's answer begins."""
  return tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True
  )


def prompt_tokens(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> list[int]:
  """Tokens of `render`'s text, in which the template has put the special tokens."""
  return tokenizer(render(tokenizer, messages), add_special_tokens=False).input_ids


def response_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
  """Tokens of an assistant's answer, with the end token.

  The answer is tokenized separately from the prompt, because the model generates it
  separately.
  """
  ids = tokenizer(text, add_special_tokens=False).input_ids
  return [*ids, tokenizer.eos_token_id]
