"""User errors before and in training: one line each."""

import json

import jax
import pytest

from vpo_jax import errors, stages
from vpo_jax.train import dpo, sft


@pytest.fixture
def compiled():
  """What was compiled in the test so far: a list of seconds."""
  found = []

  def listen(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
  ("mesh", "message"),
  [
    ({"data": 16, "devices": 0}, "needs 16 devices, there are 8"),
    ({"data": 16, "devices": 16}, "mesh.devices=16: there are 8 devices"),
    ({"data": 4, "devices": 0}, "uses 4 of 8 devices; set one axis to -1 to use all"),
    ({"data": 3, "fsdp": -1}, "3 does not divide 8"),
    ({"data": -1, "fsdp": -1}, "only one axis"),
    ({"tensor": 8}, "tensor=8 does not divide the model's"),
    ({"data": 3, "fsdp": 2}, "batch_size=8 is not divisible by the mesh's 6"),
  ],
)
def test_a_mesh_that_does_not_fit_is_one_line(
  tmp_path, make_config, compiled, mesh, message
):
  with pytest.raises(errors.UserError, match=message):
    stages.run(sft.STAGE, make_config("sft", mesh=mesh), tmp_path)
  assert not compiled


def test_bad_rows_are_set_aside(tmp_path, make_config, rows):
  good = json.loads(rows["dpo", "train"].read_text())
  bad = [{"messages": []}, {"chosen": 3}, {**good[0], "rejected": good[0]["chosen"]}]
  path = tmp_path / "mixed.json"
  path.write_text(json.dumps(bad + good))
  counts = stages.run(
    dpo.STAGE, make_config("dpo", train=str(path), epochs=1), tmp_path
  )
  assert counts["pairs"] == len(good)
  aside = (tmp_path / "train_dpo" / "set_aside_train.jsonl").read_text().splitlines()
  assert len(aside) == 3
  assert "row 1" in aside[0]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, make_config):
  config = make_config("sft")
  config.optimizer.peak_lr = float("inf")
  with pytest.raises(errors.UserError, match=r"step 2: loss nan.*rows: [0-9a-f]{16}"):
    stages.run(sft.STAGE, config, tmp_path)
