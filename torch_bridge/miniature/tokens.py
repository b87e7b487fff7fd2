"""The miniature's tokenizer: a T5 tokenizer whose pieces are the words of captions."""

from __future__ import annotations

import transformers

from torch_bridge.miniature import captions

PUNCTUATION = ",.:;!?"


def build() -> transformers.T5Tokenizer:
  """A tokenizer with one token per word of captions; any other word is `<unk>`.

  Spelling unknown words in letters failed: a model trained on captions alone drew blood
  for a prompt with "a peaceful mood".
  """
  words = dict.fromkeys(captions.vocabulary())
  words |= dict.fromkeys(word.capitalize() for word in captions.vocabulary())
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
  pieces += [(f"▁{word}", -6.0) for word in words]
  pieces += [(mark, -6.0) for mark in PUNCTUATION]
  return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
