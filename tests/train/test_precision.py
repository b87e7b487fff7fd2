"""bfloat16 products over float32 weights train as float32 throughout does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import runs
from vpo_jax import stages
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights
from vpo_jax.train import dpo


def flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def moved(tmp_path_factory, tiny_model):
  """`moved(config)`: the first weights, and how far 100 steps at lr 5e-7 took them."""

  def run(config):
    workdir = tmp_path_factory.mktemp(config.precision)
    config.update(epochs=34, eval_every=1000, checkpoint_every=1000)
    config.optimizer.update(peak_lr=5e-7)  # paper, appendix 9
    stages.run(dpo.STAGE, config, workdir)
    assert len(runs.metrics(workdir, "dpo")) == 102
    start = flat(weights.load(tiny_model, decoder_config.read(tiny_model)))
    return start, flat(runs.trained(workdir, "dpo")) - start

  return run


@pytest.mark.slow
def test_100_dpo_steps_in_bfloat16_follow_those_in_float32(make_config, moved):
  start, exact = moved(make_config("dpo", precision="float32"))
  _, rounded = moved(make_config("dpo", precision="bfloat16"))
  # Adam's step has a gradient's sign: where it is next to nothing, its rounding (2^-9
  # of an operand) turns it, so the paths agree in direction, not weight by weight.
  cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
  assert cosine > 0.95
  np.testing.assert_allclose(np.linalg.norm(rounded), np.linalg.norm(exact), rtol=0.05)
  # The same updates of bfloat16 weights would have rounded away, one by one.
  step = exact / 102
  used = np.abs(step) > 1e-9
  weight = jnp.asarray(start[used], jnp.bfloat16)
  lost = weight + jnp.asarray(step[used], jnp.bfloat16) == weight
  assert np.mean(lost) > 0.9
  assert np.mean(rounded[used] != 0) > 0.99
