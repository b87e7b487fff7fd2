"""Our Llama gives transformers' logits."""

import jax
import numpy as np
import pytest
import torch
import transformers

from vpo_jax.llama import attention, model, weights
from vpo_jax.llama import config as llama_config

LLAMA3_ROPE = {
  "rope_type": "llama3",
  "rope_theta": 10000.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 64,
}

SHAPES = {
  "tied": {"tie_word_embeddings": True},
  "untied": {"tie_word_embeddings": False},
  "llama3_rope": {"rope_parameters": LLAMA3_ROPE},
  "wide_head": {"head_dim": 32},  # heads * head_dim is not d_model
  "no_groups": {"num_key_value_heads": 4},
}


def make_llama(folder, **changes):
  """Saves a tiny random Llama as transformers does; returns its torch model."""
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    **{
      "vocab_size": 199,
      "hidden_size": 64,
      "intermediate_size": 96,
      "num_hidden_layers": 3,
      "num_attention_heads": 4,
      "num_key_value_heads": 2,
      "max_position_embeddings": 512,
      "initializer_range": 0.2,
      **changes,
    }
  )
  llama = transformers.LlamaForCausalLM(config).eval()
  llama.save_pretrained(folder)
  return llama


def our_logits(folder, tokens_BL):
  config = llama_config.read(folder)
  params = weights.load(folder, config)
  positions = np.broadcast_to(np.arange(tokens_BL.shape[1]), tokens_BL.shape)
  x, _ = model.hidden(params, tokens_BL, positions, attention.causal(), config)
  return np.asarray(model.logits(params, x))


def their_logits(llama, tokens_BL):
  with torch.no_grad():
    return llama(torch.tensor(tokens_BL)).logits.numpy()


def relative_gap(ours, theirs):
  """Largest difference, as a share of the logits' spread."""
  return np.abs(ours - theirs).max() / (theirs.max() - theirs.min())


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_logits_equal_transformers(tmp_path, changes):
  llama = make_llama(tmp_path, **changes)
  tokens = np.random.default_rng(0).integers(0, 199, (2, 300), dtype=np.int32)
  assert relative_gap(our_logits(tmp_path, tokens), their_logits(llama, tokens)) < 1e-4


def test_logits_equal_transformers_on_smollm2(smollm2):
  llama = transformers.LlamaForCausalLM.from_pretrained(smollm2)
  tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
  text = "A paper boat drifts down a rain-filled gutter, past a curious sparrow."
  tokens = np.asarray([tokenizer(text).input_ids], np.int32)
  assert relative_gap(our_logits(smollm2, tokens), their_logits(llama, tokens)) < 1e-4


def test_unstacked_layers_give_the_same(tmp_path):
  make_llama(tmp_path)
  config = llama_config.read(tmp_path)
  params = weights.load(tmp_path, config)
  tokens = np.arange(20, dtype=np.int32)[None]
  stacked, _ = model.hidden(params, tokens, tokens, attention.causal(), config)
  layers = tuple(
    jax.tree.map(lambda leaf, y=y: leaf[y], params["layers"])
    for y in range(config.layers)
  )
  listed, _ = model.hidden(
    params | {"layers": layers}, tokens, tokens, attention.causal(), config
  )
  np.testing.assert_allclose(stacked, listed, atol=1e-5)
