"""The sizes of published models."""

import jax
import numpy as np
import pytest

from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known, table

# Parameters as the model pages on the hub count them; a tied head counts once. Those of
# Gemma 3 4B and 12B are without images: 416,866,032 and 1152 * (d_model + 1) less.
PARAMETERS = {
  "smollm2-135m": 134_515_008,
  "smollm3-3b": 3_075_098_624,
  "llama3-8b": 8_030_261_248,
  "llama3.1-8b": 8_030_261_248,
  "llama3.2-1b": 1_235_814_400,
  "llama3.2-3b": 3_212_749_824,
  "mistral-7b": 7_248_023_552,
  "mistral-nemo-12b": 12_247_782_400,
  "qwen2.5-0.5b": 494_032_768,
  "qwen2.5-1.5b": 1_543_714_304,
  "qwen2.5-3b": 3_085_938_688,
  "qwen2.5-7b": 7_615_616_512,
  "qwen2.5-14b": 14_770_033_664,
  "qwen3-0.6b": 596_049_920,
  "qwen3-1.7b": 1_720_574_976,
  "qwen3-4b": 4_022_468_096,
  "qwen3-8b": 8_190_735_360,
  "gemma2-2b": 2_614_341_888,
  "gemma2-9b": 9_241_705_984,
  "gemma3-270m": 268_098_176,
  "gemma3-1b": 999_885_952,
  "gemma3-4b": 3_880_263_168,
  "gemma3-12b": 11_766_034_176,
}


@pytest.mark.parametrize("name", known.MODELS)
def test_a_known_model_has_its_number_of_parameters(name):
  weights = jax.tree.leaves(table.table(decoder_config.parse(known.MODELS[name])))
  assert sum(int(np.prod(weight.shape)) for weight in weights) == PARAMETERS[name]
