"""With logits in blocks, their memory does not grow with the rows of a step."""

import pytest

from vpo_jax.bench import head
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known

TINY = decoder_config.parse(
  known.MODELS["llama3-8b"]
  | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
  | {"num_attention_heads": 2, "num_key_value_heads": 1}
)


@pytest.mark.slow  # eight compilations
def test_a_step_holds_one_block_of_logits_whatever_its_rows():
  row = 1024
  # From two rows on, attention holds two blocks of scores, however many there are.
  two, four = head.measure(TINY, [2, 4], row, "float32", "full")
  logits = 4 * TINY.vocab  # bytes a position
  assert four["blocks"] - two["blocks"] < 2 * row * logits / 20
  assert four["plain"] - two["plain"] > 2 * row * logits
  assert four["blocks_head"] - two["blocks_head"] < 2 * row * logits / 100
  assert two["blocks"] < two["plain"]
