"""The miniature's tokenizer: a T5 tokenizer whose pieces are the captions' words."""

from __future__ import annotations

import transformers

from torch_bridge.miniature import captions

PUNCTUATION = ",.:;!?"


def build() -> transformers.T5Tokenizer:
  """A word of the captions is one token; any other is `<unk>`, which means nothing.

  Spelled words were never alike: a model that was trained on captions alone drew blood
  where a prompt spoke of "a peaceful mood".
  """
  words = dict.fromkeys(captions.vocabulary())
  words |= dict.fromkeys(word.capitalize() for word in captions.vocabulary())
  pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
  pieces += [(f"▁{word}", -6.0) for word in words]
  pieces += [(mark, -6.0) for mark in PUNCTUATION]
  return transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
