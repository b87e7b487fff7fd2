"""The packing check on SmolLM2 (slow): `pytest -m slow -s` prints what it finds."""

import json
import pathlib

import pytest

from tests.train import test_packing_check
from vpo_jax import curate, errors
from vpo_jax.bench import rows
from vpo_jax.data import chat, forest, packing, plain_rows
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import paths, sharding, weights
from vpo_jax.train import packing_check
from vpo_jax.train import policy as policies

pytestmark = pytest.mark.slow
QUERIES = pathlib.Path(curate.__file__).parent / "queries.jsonl"


@pytest.fixture(scope="module")
def model(smollm2):
  architecture = decoder_config.read(smollm2)
  placement = sharding.place(architecture, sharding.one_device_mesh())
  params = weights.load(smollm2, architecture, placement.params)
  return architecture, placement, params


def first_micro_batch(smollm2, architecture, placement, kind, folder):
  """Of eight queries in the real instruction."""
  queries = [json.loads(line)["text"] for line in QUERIES.read_text().splitlines()]
  path = folder / "train.json"
  path.write_text(json.dumps(rows.make(kind, queries, 8)))
  chat_format = chat.load(smollm2, architecture.vocab)
  examples, _ = data_examples.read(path, chat_format, kind, 2048)
  plan = packing.plan(
    examples,
    [list(range(8))],
    groups=1,
    budget=1024,
    flops_per_token=architecture.flops_per_token,
  )
  shape, micro = plan.shapes[0], plan.steps[0][0]
  packed = forest.build(examples, shape, micro)
  plain = plain_rows.build(examples, shape, micro, [0])
  return (*placement.shard_groups((packed, plain)), shape)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_differences_are_far_below_the_limits(
  smollm2, model, tmp_path, kind, precision
):
  architecture, placement, params = model
  batch = first_micro_batch(smollm2, architecture, placement, kind, tmp_path)
  policy = policies.Policy(architecture, precision, "cheap")
  objective = test_packing_check.OBJECTIVES[kind]
  print(f"\n{kind}, {precision}")  # the check prints the rest
  found = packing_check.training(policy, objective, placement, params, *batch)
  limits = packing_check.LIMITS[precision]
  assert found.gradient is not None
  assert limits.gradient is not None
  assert found.gradient < limits.gradient / 2


@pytest.mark.parametrize(
  ("kind", "broken"),
  [
    ("sft", test_packing_check.other_trees),
    ("dpo", test_packing_check.other_branches),
    ("dpo", test_packing_check.not_itself),
  ],
)
def test_broken_paths_are_far_beyond_the_limits(
  smollm2, model, tmp_path, monkeypatch, kind, broken
):
  architecture, placement, params = model
  batch = first_micro_batch(smollm2, architecture, placement, kind, tmp_path)
  monkeypatch.setattr(paths, "of_forest", broken)
  policy = policies.Policy(architecture, "bfloat16")
  with pytest.raises(errors.UserError, match="stopped") as error:
    packing_check.reference(policy, params, *batch)
  print(f"\n{kind}, {broken.__name__}: {error.value}")
