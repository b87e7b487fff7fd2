"""Training in a bucket: checkpoints, models, and runs that are killed."""

import pathlib
import shutil

import jax.numpy as jnp
import pytest

from tests.train import conftest as train_conftest
from tests.train import runs
from vpo_jax import buckets, errors, files, stages
from vpo_jax.data import chat
from vpo_jax.decoder import source
from vpo_jax.runtime import processes
from vpo_jax.train import checkpoint, mirror
from vpo_jax.train import step as train_step

make_config = train_conftest.make_config
rows = train_conftest.rows
unbroken = train_conftest.unbroken


def state(value):
  weights = {"w": jnp.full((256, 256), value, jnp.float32)}
  return train_step.State(jnp.int32(value), weights, weights)


def save(folder, *steps):
  with checkpoint.open_in(folder, keep=2) as checkpoints:
    for step in steps:
      checkpoints.save(step, state(step), None)


def restored(folder):
  with checkpoint.open_in(folder, keep=2) as checkpoints:
    step, found = checkpoints.restore_latest(state(0))
  assert float(found.params["w"].min()) == float(found.params["w"].max()) == step
  return step


def empty_scratch(bucket):
  shutil.rmtree(buckets.scratch(bucket), ignore_errors=True)


def test_the_bucket_has_the_kept_checkpoints(bucket):
  save(bucket / "train", 1, 2, 3)
  found = buckets.names(bucket / "train" / "checkpoints")
  assert {name.partition("/")[0] for name in found} == {
    *("2", "2.complete", "3", "3.complete")
  }
  assert restored(bucket / "train") == 3
  empty_scratch(bucket)
  assert restored(bucket / "train") == 3


def test_a_checkpoint_without_its_mark_does_not_count(bucket):
  save(bucket / "train", 1, 2)
  (bucket / "train" / "checkpoints" / "2.complete").unlink()
  assert restored(bucket / "train") == 1
  empty_scratch(bucket)
  assert restored(bucket / "train") == 1
  files.write_text(bucket / "train" / "checkpoints" / "2" / "cut short", "x")
  save(bucket / "train", 2)
  assert "2/cut short" not in buckets.names(bucket / "train" / "checkpoints")
  assert restored(bucket / "train") == 2


def test_a_scratch_of_other_checkpoints_is_replaced(bucket):
  """The run was continued elsewhere, or its folder was removed."""
  save(bucket / "train", 1, 2)
  local = buckets.scratch(bucket)
  shutil.move(local, f"{local}-old")
  (bucket / "train").rmtree()
  save(bucket / "train", 5)
  shutil.rmtree(local)
  shutil.move(f"{local}-old", local)
  assert restored(bucket / "train") == 5
  (bucket / "train").rmtree()
  assert restored(bucket / "train") == 0


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(bucket, capsys):
  save(bucket / "train", 1, 2)
  for name in buckets.names(bucket / "train" / "checkpoints" / "2"):
    files.write_text(bucket / "train" / "checkpoints" / "2" / name, "")
  empty_scratch(bucket)
  assert restored(bucket / "train") == 1
  assert "damaged" in capsys.readouterr().err.replace("\n", " ")
  assert "2.complete" not in buckets.names(bucket / "train" / "checkpoints")


def test_several_processes_are_refused(bucket, monkeypatch):
  monkeypatch.setattr(processes, "count", 2)
  with pytest.raises(errors.UserError, match="several processes cannot save"):
    mirror.Mirror(bucket / "checkpoints")


def test_other_paths_are_used_as_they_are(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert pathlib.Path(mirror.Mirror("a/b").local) == tmp_path / "a" / "b"
  assert str(mirror.Mirror("gs://a/b").local) == "gs://a/b"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_killed_and_continued_on_another_machine(
  bucket, make_config, unbroken, kind, tmp_path
):
  """SIGKILL after the first checkpoint, then an empty scratch folder."""
  workdir = bucket / "run"
  config = make_config(kind, model=upload(make_config(kind).model, bucket / "base"))
  process = runs.start(tmp_path, kind, config, workdir=workdir)
  mark = workdir / f"train_{kind}" / "checkpoints" / "2.complete"
  runs.kill_once(process, mark.exists)
  assert not (workdir / f"train_{kind}" / "model").exists()
  empty_scratch(bucket)
  stages.run(runs.STAGES[kind].STAGE, config, workdir)
  local = unbroken(kind, make_config)
  for name in ("loss", "eval/loss"):
    ours, theirs = (runs.metrics(one, kind, name) for one in (workdir, local))
    assert ours == theirs
  gap = runs.largest_gap(runs.trained(workdir, kind), runs.trained(local, kind))
  assert gap == 0
  empty_scratch(bucket)
  folder = source.resolve(str(workdir / f"train_{kind}" / "model"))
  text = "a red kite"
  ours, theirs = chat.load(folder, 1024), chat.load(config.model, 1024)
  assert ours.tokens(text) == theirs.tokens(text)


def upload(folder, target):
  """Copies a local folder to a bucket; returns its path as text."""
  for path in pathlib.Path(folder).iterdir():
    with files.publish(target / path.name, "wb") as file:
      file.write(path.read_bytes())
  return str(target)


def test_a_model_in_a_bucket_that_does_not_exist(bucket):
  with pytest.raises(errors.UserError, match="no such directory"):
    source.resolve(str(bucket / "none"))
