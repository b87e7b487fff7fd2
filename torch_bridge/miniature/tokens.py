"""The miniature's tokenizer: a T5 tokenizer whose pieces are whole words."""

from __future__ import annotations

import itertools
import pathlib
import string

import transformers

from torch_bridge.miniature import captions

_COMMON = pathlib.Path(__file__).parents[1] / "renderers" / "tiny_words.txt"


def build() -> transformers.T5Tokenizer:
  """Words of the captions and common ones are one token; any other is spelled."""
  words = dict.fromkeys(captions.vocabulary())
  words |= dict.fromkeys(word.capitalize() for word in captions.vocabulary())
  words |= dict.fromkeys(_COMMON.read_text(encoding="utf-8").split())
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
  pieces += [(f"▁{word}", -6.0) for word in words if len(word) > 1]
  letters = string.ascii_letters + string.digits + string.punctuation
  pieces += [(letter, -9.0) for letter in letters]
  pairs = itertools.product(string.ascii_lowercase, repeat=2)
  pieces += [(one + two, -9.0) for one, two in pairs]
  return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
