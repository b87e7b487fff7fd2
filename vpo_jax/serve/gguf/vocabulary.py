"""A tokenizer in llama.cpp's terms.

llama.cpp has two kinds that occur here. "gpt2" is BPE on bytes; how it splits a text
into words before merging has a name (`tokenizer.ggml.pre`). "llama" is SentencePiece's
BPE: neighbours merge whose union is a token, the one with the highest score first.
"""

import dataclasses
import json
from typing import Any

import gguf

from vpo_jax import errors
from vpo_jax.data import chat
from vpo_jax.decoder import pre_tokenizers

_SPACE = "▁"  # SentencePiece's


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """What a GGUF file says of a tokenizer.

  Attributes:
    model: "gpt2" or "llama".
    pre: how "gpt2" splits a text.
    tokens: the tokens' texts, one for each row of the embedding.
    types: their types.
    merges: of "gpt2", pairs of tokens joined by a space, first to last.
    scores: of "llama".
    add_bos: whether llama.cpp begins a text with the BOS token.
    space_prefix: whether "llama" begins a text with a space.
  """

  model: str
  pre: str
  tokens: tuple[str, ...]
  types: tuple[gguf.TokenType, ...]
  merges: tuple[str, ...] = ()
  scores: tuple[float, ...] = ()
  add_bos: bool = False
  space_prefix: bool = False


def read(form: chat.Format, rendered: str, where: str) -> Vocabulary:
  """Reads a tokenizer.

  Args:
    form: of the model.
    rendered: a chat in its template. If it does not begin with the BOS token, the file
      says that llama.cpp must not add one.
    where: the model, for error messages.

  Raises:
    UserError: llama.cpp has no such tokenizer.
  """
  backend = getattr(form.tokenizer, "backend_tokenizer", None)
  spec = json.loads(backend.to_str()) if backend is not None else {"model": {}}
  model = spec["model"]
  if model.get("type") != "BPE":
    raise errors.UserError(
      f"{where}: a tokenizer of type {model.get('type')!r} cannot be written as GGUF,"
      " only BPE; export it with config.format=huggingface"
    )
  add_bos = _adds_bos(form) and rendered.startswith(form.tokenizer.bos_token)
  if model.get("byte_fallback"):
    return _sentencepiece(form, spec, rendered, add_bos, where)
  merges = [
    pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]
  ]
  tokens, types = _tokens(form, spec)
  return Vocabulary(
    model="gpt2",
    pre=_pre(spec, where),
    tokens=tokens,
    types=types,
    merges=tuple(merges),
    add_bos=add_bos,
  )


def _adds_bos(form: chat.Format) -> bool:
  """Whether the tokenizer begins a text with the BOS token."""
  begin = form.tokenizer.bos_token_id
  return begin is not None and form.tokenizer("a").input_ids[:1] == [begin]


def _parts(spec: dict[str, Any], name: str, members: str) -> list[dict[str, Any]]:
  """The steps of a normalizer or pre-tokenizer."""
  part = spec.get(name)
  if part is None:
    return []
  return part[members] if part["type"] == "Sequence" else [part]


def _pre(spec: dict[str, Any], where: str) -> str:
  """llama.cpp's name of how a byte-level tokenizer splits a text."""
  steps = _parts(spec, "pre_tokenizer", "pretokenizers")
  steps = [{k: v for k, v in step.items() if k != "trim_offsets"} for step in steps]
  whole = bool(spec["model"].get("ignore_merges"))
  how = pre_tokenizers.PreTokenizer(tuple(steps), whole)
  names = [name for name, known in pre_tokenizers.BY_NAME.items() if known == how]
  if not names:
    raise errors.UserError(
      f"{where}: llama.cpp has no name for how the tokenizer splits a text; GGUF can be"
      " written for those of GPT-2, SmolLM2, Llama 3, Qwen2, Mistral Nemo, and for"
      " SentencePiece's; export it with config.format=huggingface"
    )
  normalizers = _parts(spec, "normalizer", "normalizers")
  if any(step["type"] != "NFC" for step in normalizers):
    raise errors.UserError(
      f"{where}: llama.cpp does not normalize texts as the tokenizer does"
      f" ({normalizers[0]['type']}); export it with config.format=huggingface"
    )
  return names[0]


def _tokens(
  form: chat.Format, spec: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[gguf.TokenType, ...]]:
  """Text and type of each row of the embedding; rows without a token are unused."""
  tokens = [f"[PAD{row}]" for row in range(form.vocab)]
  types = [gguf.TokenType.UNUSED] * form.vocab
  for text, row in form.tokenizer.get_vocab().items():
    if row < form.vocab:
      tokens[row], types[row] = text, gguf.TokenType.NORMAL
  for token in spec["added_tokens"]:
    if (row := token["id"]) < form.vocab:
      special = token["special"] or row in form.stops
      types[row] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
  return tuple(tokens), tuple(types)


def _sentencepiece(
  form: chat.Format, spec: dict[str, Any], rendered: str, add_bos: bool, where: str
) -> Vocabulary:
  scores = _scores(spec, where)
  tokens, types = _tokens(form, spec)
  kinds = list(types)
  for row, token in enumerate(tokens):
    if kinds[row] is gguf.TokenType.USER_DEFINED and _SPACE in token:
      kinds[row] = gguf.TokenType.NORMAL  # as an added token it matches no space
    elif token == spec["model"].get("unk_token"):
      kinds[row] = gguf.TokenType.UNKNOWN
    elif token in _BYTE_TOKENS:
      kinds[row] = gguf.TokenType.BYTE
  return Vocabulary(
    model="llama",
    pre="default",
    tokens=tokens,
    types=tuple(kinds),
    scores=tuple(scores.get(token, -1000.0) for token in tokens),
    add_bos=add_bos,
    space_prefix=_space_prefix(form, spec, rendered, where),
  )


_BYTE_TOKENS = {f"<0x{byte:02X}>" for byte in range(256)}


def _scores(spec: dict[str, Any], where: str) -> dict[str, float]:
  """Scores by which llama.cpp merges in the tokenizer's order.

  Raises:
    UserError: there are none: the merges that make one token do not follow each other.
  """
  scores: dict[str, float] = {}
  last = ""
  for pair in spec["model"]["merges"]:
    token = "".join(pair.split(" ")) if isinstance(pair, str) else "".join(pair)
    if token != last and token in scores:
      raise errors.UserError(
        f"{where}: the order of the tokenizer's merges is not SentencePiece's (token"
        f" {token!r}); export it with config.format=huggingface"
      )
    scores.setdefault(token, -float(len(scores)))
    last = token
  return scores


def _space_prefix(
  form: chat.Format, spec: dict[str, Any], rendered: str, where: str
) -> bool:
  """Whether each stretch of text between special tokens begins with a space more."""
  steps = _parts(spec, "normalizer", "normalizers")
  replaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
  if replaces in steps:
    others = [step for step in steps if step != replaces]
    if others in ([], [{"type": "Prepend", "prepend": _SPACE}]):
      return bool(others)
  before = _parts(spec, "pre_tokenizer", "pretokenizers")
  if not steps and [step["type"] for step in before] == ["Metaspace"]:
    scheme = before[0]["prepend_scheme"]
    marked = any(rendered.startswith(marker) for marker in form.markers())
    if scheme == "never" or (scheme == "first" and marked):
      return False
    if scheme == "always":
      return True
  raise errors.UserError(
    f"{where}: llama.cpp does not treat spaces as the tokenizer does; export it with"
    " config.format=huggingface"
  )


def add(
  writer: gguf.GGUFWriter, vocabulary: Vocabulary, form: chat.Format, template: str
) -> None:
  """Adds the keys of a tokenizer and its chat template."""
  writer.add_tokenizer_model(vocabulary.model)
  writer.add_tokenizer_pre(vocabulary.pre)
  writer.add_token_list(vocabulary.tokens)
  writer.add_token_types(vocabulary.types)
  if vocabulary.model == "llama":
    writer.add_token_scores(vocabulary.scores)
  else:
    writer.add_token_merges(vocabulary.merges)
  tokenizer = form.tokenizer
  end = int(tokenizer.eos_token_id)
  writer.add_eos_token_id(end)
  if form.end != end:
    writer.add_eot_token_id(form.end)
  for row, add_row in (
    (tokenizer.bos_token_id, writer.add_bos_token_id),
    (tokenizer.unk_token_id, writer.add_unk_token_id),
    (tokenizer.pad_token_id, writer.add_pad_token_id),
  ):
    if row is not None and row < form.vocab:
      add_row(int(row))
  writer.add_add_bos_token(vocabulary.add_bos)
  writer.add_add_eos_token(False)
  writer.add_add_space_prefix(vocabulary.space_prefix)
  writer.add_chat_template(template)
