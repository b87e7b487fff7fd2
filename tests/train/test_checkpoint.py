"""Checkpoints: when they are whole, and a disk that has no room."""

import shutil

import jax.numpy as jnp
import pytest

from vpo_jax import errors, stages
from vpo_jax.train import checkpoint, sft, step


def test_no_room_for_a_checkpoint_is_one_line_and_the_last_is_kept(
  tmp_path, make_config, monkeypatch
):
  usage = shutil.disk_usage
  calls = []

  def nearly_full(path):
    calls.append(path)
    free = usage(path).free if len(calls) == 1 else 1000
    return usage(path)._replace(free=free)

  monkeypatch.setattr(shutil, "disk_usage", nearly_full)
  with pytest.raises(errors.UserError, match="the disk is full: a checkpoint takes"):
    stages.run(sft.STAGE, make_config("sft"), tmp_path)
  with checkpoint.open_in(tmp_path / "train_sft", keep=1) as checkpoints:
    assert checkpoints.latest() == 2

  monkeypatch.undo()
  assert stages.run(sft.STAGE, make_config("sft"), tmp_path)["steps"] == 6


def test_on_a_cpu_a_save_is_whole_when_it_returns(tmp_path):
  """It would hold the state's memory, which the next step is to write into."""
  with checkpoint.open_in(tmp_path, keep=1) as checkpoints:
    state = step.State(jnp.int32(1), {"w": jnp.ones((512, 512))}, {})
    checkpoints.save(1, state, None)
    assert (tmp_path / "checkpoints" / "1").is_dir()
