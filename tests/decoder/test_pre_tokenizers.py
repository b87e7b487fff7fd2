"""A tokenizer of a GGUF file splits a text as llama.cpp does."""

import pytest
import transformers

from vpo_jax.decoder import pre_tokenizers, source


@pytest.fixture(scope="module")
def tokenizer():
  folder = source.resolve(source.SMOLLM2)
  return transformers.AutoTokenizer.from_pretrained(str(folder))


def pieces(tokenizer, text):
  return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


def test_smollm2_splits_a_text_before_digits(tokenizer):
  """As the published tokenizer; otherwise the two spaces would be two tokens."""
  assert pieces(tokenizer, "woods.  8k") == ["woods", ".", "  ", "8", "k"]


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("gpt-2", ["He", "'s", " 1234", "  ", " x", "!!", "\n"]),
    ("smollm", ["He", "'s", " ", "1", "2", "3", "4", "  ", " x", "!!", "\n"]),
    ("llama-bpe", ["He", "'s", " ", "123", "4", "  ", " x", "!!\n"]),
    ("qwen2", ["He", "'s", " ", "1", "2", "3", "4", "  ", " x", "!!\n"]),
    ("tekken", ["He", "'s", " ", "1", "2", "3", "4", "  ", " x", "!!\n"]),
  ],
)
def test_each_name_splits_in_its_way(tokenizer, name, words):
  how = pre_tokenizers.by_name(name)
  backend = pre_tokenizers.apply(tokenizer.backend_tokenizer, how)
  found = backend.pre_tokenizer.pre_tokenize_str("He's 1234   x!!\n")
  plain = [word.replace("Ġ", " ").replace("Ċ", "\n") for word, _ in found]
  assert plain == words


def test_an_unknown_name_is_refused():
  with pytest.raises(ValueError, match="'deepseek-llm' is not one of gpt-2, smollm"):
    pre_tokenizers.by_name("deepseek-llm")
