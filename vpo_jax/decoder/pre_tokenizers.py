"""How byte-level tokenizers split a text into words, by llama.cpp's names.

A GGUF file only has the name (`tokenizer.ggml.pre`); a Hugging Face directory has the
steps of the package tokenizers.
"""

import json
from typing import Any, NamedTuple

import tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_PUNCTUATION, _SPACES = r" ?[^\s\p{L}\p{N}]+", r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
  rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
  rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
)
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_PUNCTUATION}[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_PUNCTUATION}[\r\n]*|{_SPACES}"
_TEKKEN = rf"{_CASED}|\p{{N}}|{_PUNCTUATION}[\r\n/]*|{_SPACES}"
_GPT2 = ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(regex: str) -> tuple[dict[str, Any], ...]:
  pattern = {"Regex": regex}
  split = {
    "type": "Split",
    "pattern": pattern,
    "behavior": "Isolated",
    "invert": False,
  }
  return split, _BYTES


class PreTokenizer(NamedTuple):
  """How a text is split before merging.

  Attributes:
    steps: pre-tokenizers of tokenizers, as its JSON has them.
    ignore_merges: whether a word that is a token stays whole.
  """

  steps: tuple[dict[str, Any], ...]
  ignore_merges: bool


BY_NAME = {
  "gpt-2": PreTokenizer(_GPT2, ignore_merges=False),
  "smollm": PreTokenizer(
    ({"type": "Digits", "individual_digits": True}, *_GPT2), ignore_merges=False
  ),
  "llama-bpe": PreTokenizer(_split(_LLAMA3), ignore_merges=True),
  "smaug-bpe": PreTokenizer(_split(_LLAMA3), ignore_merges=False),
  "qwen2": PreTokenizer(_split(_QWEN2), ignore_merges=False),
  "tekken": PreTokenizer(_split(_TEKKEN), ignore_merges=True),
}


def by_name(name: str) -> PreTokenizer:
  """The pre-tokenizer of llama.cpp's name.

  Raises:
    ValueError: the name is not one of `BY_NAME`.
  """
  if name not in BY_NAME:
    known = ", ".join(BY_NAME)
    raise ValueError(f"pre-tokenizer {name!r} is not one of {known}")
  return BY_NAME[name]


def apply(tokenizer: tokenizers.Tokenizer, how: PreTokenizer) -> tokenizers.Tokenizer:
  """The tokenizer with this pre-tokenizer instead of its own."""
  spec = json.loads(tokenizer.to_str())
  # Offsets do not change tokens, but tokenizers requires the key.
  offsets = {"ByteLevel": {"trim_offsets": True}}
  steps = [step | offsets.get(step["type"], {}) for step in how.steps]
  spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
  spec["model"]["ignore_merges"] = how.ignore_merges
  return tokenizers.Tokenizer.from_str(json.dumps(spec))
