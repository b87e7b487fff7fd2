"""Text and tokens of chats, by the model's tokenizer and chat template."""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jinja2
from etils import epath

from vpo_jax import buckets, errors, files, json_input

Messages = Sequence[Mapping[str, str]]
Tokens = tuple[list[int], list[list[int]]]  # of a prompt, and of each response

# A user's turn and an answer, with which a template is tried out when it is loaded.
_PROBE = ({"role": "user", "content": "a red kite"},)
_ANSWER = "A red kite climbs."
# Templates of Llama 3.1 and others write today's date. With a fixed one, a run that
# continues on another day has the same prompts; this is Llama's own default.
_DATE = datetime.date(2024, 7, 26)
_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_SMALL = (".json", ".jinja", ".model", ".txt")  # suffixes of a directory's small files


@runtime_checkable
class Tokenizer(Protocol):
  """The part of transformers' tokenizer interface that this project uses."""

  chat_template: Any
  added_tokens_decoder: Any

  def __getattr__(self, name: str) -> Any: ...  # eos_token_id, pad_token_id

  def apply_chat_template(
    self, conversation: list[dict[str, str]], **options: Any
  ) -> Any: ...

  def __call__(self, text: str, **options: Any) -> Any: ...

  def decode(self, token_ids: Any, **options: Any) -> Any: ...

  def get_vocab(self) -> dict[str, int]: ...

  def save_pretrained(self, save_directory: str, **options: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Format:
  """How a model's chats are written as tokens.

  Attributes:
    tokenizer: with its chat template.
    end: the token that the template writes after an assistant's turn; training teaches
      it. It is not always the tokenizer's end token (early Llama-3-8B-Instruct).
    stops: every token that ends an answer.
    vocab: the number of rows of the model's embedding.
    reasoning: whether prompts ask models that can reason to do so. Templates without
      that choice ignore it.
  """

  tokenizer: Tokenizer
  end: int
  stops: tuple[int, ...]
  vocab: int
  reasoning: bool = False

  def render(self, messages: Messages, *, generation_prompt: bool = True) -> str:
    """The chat as text, up to where the assistant's answer begins.

    Args:
      generation_prompt: whether the assistant's header is the end of the text; without
        it the model has to write the header.

    Raises:
      jinja2.TemplateError: the template refuses the messages.
    """
    return self._render(messages, add_generation_prompt=generation_prompt)

  def _render(self, messages: Messages, **options: Any) -> str:
    return _render(self.tokenizer, messages, self.reasoning, **options)

  def header(self) -> list[int]:
    """Tokens of the assistant's header, without spaces at its end.

    Empty if the template has no header of its own.
    """
    before = self.render(_PROBE, generation_prompt=False)
    whole = self.render(_PROBE)
    ids = self.tokens(whole[len(before) :]) if whole.startswith(before) else []
    while ids and not self.tokenizer.decode(ids[-1:]).strip():
      ids.pop()
    return ids

  def example(self, messages: Messages, answers: Sequence[str]) -> Tokens:
    """Tokens of a chat, and of each answer as the template writes it.

    An answer ends with the end token. What a template writes after that (a newline in
    ChatML) is left out: the model stops before it.

    Raises:
      ValueError: the template changes an answer, an answer contains the end token, or
        the model does not know a token.
      jinja2.TemplateError: the template refuses the messages.
    """
    before = self.render(messages)
    prompt = self.tokens(before)
    responses = []
    for answer in answers:
      turn = {"role": "assistant", "content": answer}
      whole = self._render([*messages, turn])
      responses.append(self._response(before, prompt, whole, answer))
    return prompt, responses

  def _response(
    self, before: str, prompt: list[int], whole: str, answer: str
  ) -> list[int]:
    if not whole.startswith(before) or answer.strip() not in whole[len(before) :]:
      raise ValueError("the chat template changes the response")
    ids = self._continuation(prompt, before, whole)
    # The template's own end token, if it writes one, comes after the answer.
    _, _, after = whole[len(before) :].rpartition(answer.strip())
    own = self.tokens(after).count(self.end)
    ends = [place for place, id in enumerate(ids) if id == self.end]
    if own:
      ids = ids[: ends[-own]]
    if set(ids) & set(self.stops):
      raise ValueError("the response contains the model's end token")
    return [*ids, self.end]

  def plain_example(self, text: str, answers: Sequence[str]) -> Tokens:
    """Tokens of a text and of its continuations, without the chat template, as in TRL.

    The tokenizer puts its special tokens before the text. An answer ends with the
    tokenizer's end token.
    """
    end, begin = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
    prompt = self._known(self.tokenizer(text).input_ids)
    if begin is not None and prompt[:2] == [begin, begin]:
      raise ValueError(
        "the text begins with the BOS token, which the tokenizer adds anyway"
      )
    responses = []
    for answer in answers:
      ids = self._continuation(prompt, text, text + answer, add_special_tokens=True)
      responses.append(ids if ids[-1:] == [end] else [*ids, end])
    return prompt, responses

  def tokens(self, text: str) -> list[int]:
    """Tokens of a text, in which special tokens are read and none are added.

    Raises:
      ValueError: the model's embedding has no row for a token.
    """
    return self._known(self.tokenizer(text, add_special_tokens=False).input_ids)

  def markers(self) -> list[str]:
    """The texts that are read as special tokens, or that end an answer."""
    return [
      token.content
      for id, token in self.tokenizer.added_tokens_decoder.items()
      if token.special or id in self.stops
    ]

  def _known(self, ids: list[int]) -> list[int]:
    if unknown := [id for id in ids if id >= self.vocab]:
      token = self.tokenizer.decode(unknown[:1])
      raise ValueError(f"contains {token}, for which the model has no embedding")
    return ids

  def _continuation(
    self,
    prompt: list[int],
    before: str,
    whole: str,
    add_special_tokens: bool = False,
  ) -> list[int]:
    """Tokens of what follows `before`, whose tokens are `prompt`, in `whole`.

    They are those of the whole text, as other trainers compute them, if none spans the
    boundary. Otherwise it is tokenized separately, as the model generates it.
    """
    ids = self._known(
      self.tokenizer(whole, add_special_tokens=add_special_tokens).input_ids
    )
    fits = ids[: len(prompt)] == prompt
    return ids[len(prompt) :] if fits else self.tokens(whole[len(before) :])


def load(folder: epath.PathLike, vocab: int, reasoning: bool = False) -> Format:
  """Reads the tokenizer and the chat template of a model directory.

  Args:
    vocab: the number of rows of the model's embedding.
    reasoning: see `Format`.

  Raises:
    UserError: there is no tokenizer, it has no chat template or end token, the template
      is not valid or does not write an answer where its generation prompt ends, or a
      token's id is beyond the embedding.
  """
  folder = epath.Path(folder)
  try:
    tokenizer = _tokenizer_class(folder).from_pretrained(str(_local(folder)))
  except errors.UserError:
    raise
  except Exception as error:  # tokenizers raises nothing more specific
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise errors.UserError(f"{folder}: no usable tokenizer: {reason}") from error
  if tokenizer.chat_template is None:
    raise errors.UserError(f"{folder}: the tokenizer has no chat template")
  if tokenizer.eos_token_id is None:
    raise errors.UserError(f"{folder}: the tokenizer has no end token")
  end, written = _end(tokenizer, folder, reasoning)
  stops = {end, int(tokenizer.eos_token_id), *_configured_ends(folder)}
  if tokenizer.bos_token_id is not None:
    written.add(int(tokenizer.bos_token_id))
  _check_vocabulary(tokenizer, folder, vocab, written | stops)
  return Format(tokenizer, end, tuple(sorted(stops)), vocab, reasoning)


def _local(folder: epath.Path) -> epath.Path:
  """A local folder with the directory's small files, for libraries that need one."""
  if files.is_bucket(folder):
    small = [path.name for path in folder.iterdir() if path.suffix in _SMALL]
    buckets.fetch_all(folder, small)
  return buckets.scratch(folder)


def _tokenizer_class(folder: epath.Path) -> Any:
  """The tokenizer's class; AutoTokenizer, which imports torch, only if necessary."""
  import transformers

  path = folder / "tokenizer_config.json"
  name = json_input.fields(path).get("tokenizer_class") if path.exists() else None
  fast = name in ("PreTrainedTokenizerFast", "TokenizersBackend")
  if fast and (folder / "tokenizer.json").exists():
    return transformers.PreTrainedTokenizerFast
  return transformers.AutoTokenizer


def template(tokenizer: Tokenizer) -> str:
  """The text of a tokenizer's chat template, with a fixed date for today's."""
  text = tokenizer.get_chat_template()
  return _NOW.sub(lambda found: repr(_DATE.strftime(found[2])), text)


def _render(
  tokenizer: Tokenizer, messages: Messages, reasoning: bool, **options: Any
) -> str:
  several = not isinstance(tokenizer.chat_template, str)  # the tokenizer chooses
  return tokenizer.apply_chat_template(
    [dict(message) for message in messages],
    chat_template=None if several else template(tokenizer),
    tokenize=False,
    enable_thinking=reasoning,
    **options,
  )


def _end(
  tokenizer: Tokenizer, folder: epath.Path, reasoning: bool
) -> tuple[int, set[int]]:
  """The token after an assistant's turn, and all tokens that the template writes.

  If the template writes none there, it is the tokenizer's end token.
  """
  try:
    before = _render(tokenizer, _PROBE, reasoning, add_generation_prompt=True)
    answer = {"role": "assistant", "content": _ANSWER}
    whole = _render(tokenizer, [*_PROBE, answer], reasoning)
  except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
    syntax = isinstance(error, jinja2.TemplateSyntaxError)
    line = f"line {error.lineno}: " if syntax else ""
    raise errors.UserError(
      f"{folder}: the chat template fails: {line}{error}"
    ) from error
  _, found, after = whole[len(before) :].partition(_ANSWER)
  if not whole.startswith(before) or not found:
    raise errors.UserError(
      f"{folder}: the chat template writes an answer elsewhere than its generation"
      " prompt ends, so that training and sampling would differ"
    )
  # An added token need not be marked as special to end a turn; some are spaces.
  added = tokenizer.added_tokens_decoder.items()
  marks = {id for id, token in added if token.special or token.content.strip()}
  ids = tokenizer(after, add_special_tokens=False).input_ids
  end = next((id for id in ids if id in marks), int(tokenizer.eos_token_id))
  return end, set(tokenizer(whole, add_special_tokens=False).input_ids)


def _configured_ends(folder: epath.Path) -> list[int]:
  """End tokens of generation_config.json, or without that file of config.json.

  Llama 3 has several.
  """
  for name in ("generation_config.json", "config.json"):
    path = folder / name
    if path.exists():
      found = json_input.fields(path).get("eos_token_id")
      return found if isinstance(found, list) else [] if found is None else [found]
  return []


def _check_vocabulary(
  tokenizer: Tokenizer, folder: epath.Path, vocab: int, written: set[int]
) -> None:
  """Raises UserError if a token has no row in the embedding.

  Padding and special tokens may have none if the template never writes them, such as
  Gemma 3's placeholder of images. A text that contains one is refused by itself.

  Args:
    written: the tokens that the template writes, and the BOS and end tokens.
  """
  added = tokenizer.added_tokens_decoder
  spare = {id for id, token in added.items() if token.special}
  spare = (spare | {tokenizer.pad_token_id}) - written
  last = max({*tokenizer.get_vocab().values()} - spare, default=0)
  if last >= vocab:
    raise errors.UserError(
      f"{folder}: the tokenizer has a token with id {last}, but the model's vocabulary"
      f" has {vocab} tokens (vocab_size in config.json); resize the model's embeddings"
      " when adding tokens"
    )
