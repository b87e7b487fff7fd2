"""What a step is said to compute."""

import numpy as np

from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.train import computation

CONFIG = decoder_config.parse(
  {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
  }
)


def pair(prompt, chosen, rejected):
  tokens = [np.zeros(count, np.int32) for count in (prompt, chosen, rejected)]
  return data_examples.Example("", tokens[0], (tokens[1], tokens[2]))


def test_tokens_of_the_forest_and_of_plain_rows():
  examples = [pair(10, 4, 6), pair(12, 3, 3), pair(9, 2, 5)]
  # Two micro-batches of two groups; the last group is empty.
  micros = [[[[0]], [[1]]], [[[2]], [[]]]]
  counted = computation.of_step(examples, 8, micros, CONFIG)
  assert counted.useful_tokens == 3 * 8 + (2 + 3 + 5) + (4 + 2 + 2) + (1 + 1 + 4)
  assert counted.plain_tokens == (14 + 16) + (15 + 15) + (11 + 14)
  rates = counted.rates(0.5)
  assert rates["useful_tokens_per_second"] == 2 * counted.useful_tokens


def test_flops_are_six_a_weight_and_token_and_the_scores():
  """Without a stem and with one response, a tree is a plain causal row."""
  prompt, response = 7, 5
  tokens = np.zeros(prompt, np.int32), np.zeros(response, np.int32)
  example = data_examples.Example("", tokens[0], (tokens[1],))
  counted = computation.of_step([example], 0, [[[[0]]]], CONFIG)
  fed = prompt + response - 1  # the last token is predicted only
  weights = CONFIG.layers * (4 * 16 * 16 + 3 * 16 * 32)
  scores = CONFIG.layers * 2 * 16 * (prompt + response) / 2
  vocabulary = response * 16 * 100
  np.testing.assert_allclose(counted.flops, 6 * (fed * (weights + scores) + vocabulary))
  frozen = computation.of_step([example], 0, [[[[0]]]], CONFIG, frozen=True)
  without = 4 * (fed * weights + vocabulary) + 6 * fed * scores
  np.testing.assert_allclose(frozen.flops, without)
