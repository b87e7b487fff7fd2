"""A small world whose reward depends on the words of a prompt."""

import numpy as np
import pytest

from configs import train_predictor as predictor_config
from tests.sample.conftest import policy
from vpo_jax import records, stages
from vpo_jax.predict import predictor, train_predictor

__all__ = ["policy"]

WORDS = ["a", "slow", "bright", "red", "small", "boat", "turns", "drifts", "past"]


def prompts_of(rng, count):
  texts = (" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(99))
  return list(dict.fromkeys(texts))[:count]


def reward_of(prompt):
  """Red is good and slow is bad; the miniature's rewards have about this size."""
  words = prompt.split()
  return 1.5 * words.count("red") - words.count("slow")


def write_groups(path, queries, seed=0, prompts=4, noise=0.1):
  """Groups of scored candidates; a query's own difficulty is part of its rewards."""
  rng = np.random.default_rng(seed)
  rows = []
  for number in range(queries):
    level = rng.normal(scale=5)
    responses = [
      records.Response(
        k, text, True, None, reward_of(text) + level + noise * rng.normal(), {}, {}
      )
      for k, text in enumerate(prompts_of(rng, prompts))
    ]
    responses.append(records.Response(9, "not scored", True, None, None, {}, {}))
    rows.append(
      records.Group(f"q{number}", f"boat {number}", "general", "", tuple(responses))
    )
  records.write(path, rows)
  return rows


@pytest.fixture(scope="session")
def make_config(tiny_model):
  """`make_config(**changes)`: of the stage train_predictor, on one device."""

  def make(**changes):
    config = predictor_config.get_config()
    config.model = str(tiny_model)
    config.mesh.update(data=1, devices=1)
    config.update(**changes)
    return config

  return make


@pytest.fixture(scope="session")
def trained(make_config, tmp_path_factory):
  """A workdir with a trained predictor."""
  workdir = tmp_path_factory.mktemp("predictor")
  write_groups(workdir / "groups" / "groups.jsonl", 80)
  stages.run(train_predictor.STAGE, make_config(), workdir)
  return workdir


@pytest.fixture(scope="session")
def loaded(trained):
  return predictor.load(trained / "train_predictor")
