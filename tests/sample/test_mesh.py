"""Sampling on several devices."""

import jax
import pytest

from configs import sample as sample_config
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import known, sharding
from vpo_jax.plan import hlo_cost, models, program
from vpo_jax.sample import generate, lm, settings

QUERIES = ("a cat on a skateboard", "rain", "two moons over a lake", "bees")
# The vocabulary is 193 blocks of 256, which eight devices cannot split evenly.
SMALL = decoder_config.parse(
  known.MODELS["smollm2-135m"]
  | {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512}
  | {"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 49408}
)


@pytest.mark.parametrize("axes", [{"data": 4, "tensor": 1}, {"data": 2, "tensor": 2}])
def test_a_mesh_draws_what_one_device_draws(axes, policy, tiny_model):
  config = sample_config.get_config()
  config.mesh.update(axes, devices=axes["data"] * axes["tensor"])
  split = lm.load(str(tiny_model), mesh=sharding.make_mesh(config.mesh))
  wanted = settings.Settings(num_candidates=2, temperature=0.9, max_new_tokens=16)

  def drawn(model):
    prompts = [model.prompt(query) for query in QUERIES]
    return generate.generate(model, prompts, wanted, slots=8)

  assert drawn(split) == drawn(policy)


@pytest.mark.parametrize(("data", "tensor"), [(8, 1), (1, 8)])
def test_a_step_sends_neither_the_cache_nor_the_vocabulary(data, tensor):
  """What is gathered is less than one row of logits for each slot."""
  config = sample_config.get_config()
  config.update(slots=64)
  config.mesh.update(data=data, tensor=tensor)
  lowered = program.lower("sample", config, SMALL, models.Lengths(), jax.devices()[:8])
  text = lowered.lowered.compile().as_text()
  sent = hlo_cost.analyze(text, lowered.trips).collectives
  gathered = sum(n for (kind, *_), n in sent.items() if kind == "all-gather")
  assert gathered < 0.01 * 4 * 64 * SMALL.vocab * lowered.trips
