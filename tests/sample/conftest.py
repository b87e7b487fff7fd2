"""A tiny Llama with SmolLM2's tokenizer: prompts are real, weights are random."""

import shutil

import pytest
import torch
import transformers

from vpo_jax.decoder import directory
from vpo_jax.sample import lm


@pytest.fixture(scope="session")
def tiny(smollm2, tmp_path_factory):
  """Its directory; 4 heads over 2 key-value heads, context 1024."""
  folder = tmp_path_factory.mktemp("tiny")
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=49152,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    initializer_range=0.3,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
  )
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  for name in directory.COMPANIONS:
    if (smollm2 / name).exists():
      shutil.copy(smollm2 / name, folder / name)
  return folder


@pytest.fixture(scope="session")
def policy(tiny):
  return lm.load(str(tiny))
