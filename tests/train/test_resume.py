"""A training run that was killed, or went wrong, continues from a checkpoint."""

import random
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest

from tests import waiting
from tests.train import runs
from vpo_jax import errors, stages
from vpo_jax.runtime import preemption
from vpo_jax.train import checkpoint, optimizer, sft


@pytest.mark.parametrize("kind", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_killed_and_run_again_it_ends_the_same(tmp_path, make_config, unbroken, kind):
  """SIGKILL after the first checkpoint; the second run ends to the bit as one run."""
  config = make_config(kind)
  runs.kill_after_checkpoint(runs.start(tmp_path, kind, config), tmp_path, kind, 2)
  stages.run(runs.STAGES[kind].STAGE, config, tmp_path)
  runs.assert_ends_as(tmp_path, unbroken(kind, make_config), kind)


@pytest.mark.parametrize("kind", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_continued_with_other_execution_keys_it_ends_the_same(
  tmp_path, make_config, unbroken, kind
):
  """Killed after a checkpoint, then continued with less memory on other devices."""
  process = runs.start(tmp_path, kind, make_config(kind, peak_lr=1e-4))
  runs.kill_after_checkpoint(process, tmp_path, kind, 2)
  other = make_config(
    kind, mesh=runs.MIXED, peak_lr=1e-4, micro_tokens=128, remat="full"
  )
  stages.run(runs.STAGES[kind].STAGE, other, tmp_path)
  one = unbroken(kind, make_config, peak_lr=1e-4)
  ours, theirs = runs.metrics(tmp_path, kind), runs.metrics(one, kind)
  assert list(ours) == list(theirs) == list(range(1, 7))
  np.testing.assert_allclose(list(ours.values()), list(theirs.values()), atol=1e-5)
  assert runs.largest_gap(runs.trained(tmp_path, kind), runs.trained(one, kind)) < 1e-5


@pytest.mark.slow
def test_a_checkpoint_cut_short_is_never_chosen(tmp_path, make_config, unbroken):
  """SIGKILL while step 4 is being saved; step 3 was saved as the best so far.

  As on accelerators, the run does not wait for a save, so a save can be cut short.
  """
  config = make_config("sft")
  process = runs.start(
    tmp_path,
    "sft",
    config,
    "import os, pathlib, signal\n"
    "from vpo_jax.train import checkpoint\n"
    f"folder = pathlib.Path({str(tmp_path / 'train_sft' / 'checkpoints')!r})\n"
    "checkpoint.Checkpoints.wait = lambda self: None\n"
    "save = checkpoint.Checkpoints.save\n"
    "def cut(self, step, state, loss):\n"
    "  save(self, step, state, loss)\n"
    "  if step == 4:\n"
    "    while not any(path.name.startswith('4') for path in folder.iterdir()):\n"
    "      pass  # the save's thread has written nothing yet\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
    "checkpoint.Checkpoints.save = cut\n",
  )
  assert process.wait(waiting.LIMIT_S) == -signal.SIGKILL
  left = {path.name for path in (tmp_path / "train_sft" / "checkpoints").iterdir()}
  assert left > {"2", "3"}, "nothing of step 4: nothing is shown"
  with checkpoint.open_in(tmp_path / "train_sft", keep=2) as checkpoints:
    assert checkpoints.latest() == 3
  stages.run(sft.STAGE, config, tmp_path)
  runs.assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")


def _files(folder):
  return sorted(path for path in folder.rglob("*") if path.is_file())


def _empty(folder):
  for path in _files(folder):
    path.write_bytes(b"")


def _truncate(folder):
  for path in _files(folder):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _lose_half(folder):
  for path in _files(folder)[::2]:
    path.unlink()


# Checkpoints of steps 2 and 4 are kept.
_DIES_AFTER_5 = """
import os, signal
from vpo_jax.runtime import watchdog
step = watchdog.Watch.step
def dies(self, kind, number):
  if number == 6: os.kill(os.getpid(), signal.SIGKILL)
  step(self, kind, number)
watchdog.Watch.step = dies
"""


@pytest.fixture(scope="module")
def died(tmp_path_factory):
  """`died(config, workdir)`: a run that died in step 6, copied to `workdir`."""
  first = tmp_path_factory.mktemp("died")

  def copy(config, workdir):
    if not any(first.iterdir()):
      process = runs.start(first, "sft", config, _DIES_AFTER_5)
      assert process.wait(waiting.LIMIT_S) == -signal.SIGKILL
    shutil.copytree(first, workdir, dirs_exist_ok=True)

  return copy


@pytest.mark.parametrize("damage", [_empty, _truncate, _lose_half])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
  tmp_path, make_config, unbroken, capsys, died, damage
):
  config = make_config("sft", eval_every=1000, keep_checkpoints=5)
  died(config, tmp_path)
  checkpoints = tmp_path / "train_sft" / "checkpoints"
  assert {"2", "4"} <= {path.name for path in checkpoints.iterdir()}
  damage(checkpoints / "4")
  capsys.readouterr()
  stages.run(sft.STAGE, config, tmp_path)
  said = [line for line in capsys.readouterr().err.split("\n") if "is damaged" in line]
  assert len(said) == 1
  assert said[0].startswith(f"{checkpoints / '4'}: the checkpoint is damaged (")
  changes = {"eval_every": 1000, "keep_checkpoints": 5}
  runs.assert_ends_as(tmp_path, unbroken("sft", make_config, **changes), "sft")


def test_if_all_checkpoints_are_damaged_it_is_one_line(tmp_path, make_config, died):
  config = make_config("sft", eval_every=1000, keep_checkpoints=5)
  died(config, tmp_path)
  _empty(tmp_path / "train_sft" / "checkpoints")
  with pytest.raises(errors.UserError, match="all 2 checkpoints are damaged; remove"):
    stages.run(sft.STAGE, config, tmp_path)


@pytest.mark.parametrize(
  "error",
  [
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."),
    PermissionError("checkpoints/4"),
    ValueError("UNAVAILABLE: the bucket does not answer"),
  ],
)
def test_what_says_nothing_of_its_files_is_no_damage(
  tmp_path, make_config, died, error, monkeypatch
):
  config = make_config("sft", eval_every=1000, keep_checkpoints=5)
  died(config, tmp_path)

  def restore(*_, **__):
    raise error

  monkeypatch.setattr(checkpoint.Checkpoints, "_restore", restore)
  with pytest.raises(type(error)):
    stages.run(sft.STAGE, config, tmp_path)
  checkpoints = tmp_path / "train_sft" / "checkpoints"
  assert {"2", "4"} <= {path.name for path in checkpoints.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_killed_at_random_it_ends_the_same(tmp_path, make_config, unbroken, kind):
  """Five times, wherever it is: in a step, a checkpoint, a row of the metrics."""
  seed = random.SystemRandom().randrange(2**32)
  print(f"seed {seed}")
  rng, config = random.Random(seed), make_config(kind)
  log = tmp_path / f"train_{kind}" / "metrics.jsonl"
  slowly = (
    "import time\n"
    "from vpo_jax.runtime import watchdog\n"
    "step = watchdog.Watch.step\n"
    "def slowly(self, kind, number):\n"
    "  time.sleep(0.2)\n"
    "  step(self, kind, number)\n"
    "watchdog.Watch.step = slowly\n"
  )
  for _ in range(5):
    began = time.time_ns()
    process = runs.start(tmp_path, kind, config, slowly)
    while process.poll() is None and not _written_since(log, began):
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 1))
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
  stages.run(runs.STAGES[kind].STAGE, config, tmp_path)
  runs.assert_ends_as(tmp_path, unbroken(kind, make_config), kind)


def _written_since(path, nanoseconds):
  return path.exists() and path.stat().st_mtime_ns > nanoseconds


def test_sigterm_saves_and_says_so(tmp_path, make_config, unbroken):
  """The signal comes in step 5, which is saved by no other rule."""
  config = make_config("sft")
  process = runs.start(
    tmp_path,
    "sft",
    config,
    "import os, signal\n"
    "from vpo_jax.runtime import watchdog\n"
    "step = watchdog.Watch.step\n"
    "def then_sigterm(self, kind, number):\n"
    "  step(self, kind, number)\n"
    "  if (kind, number) == ('training step', 5):\n"
    "    os.kill(os.getpid(), signal.SIGTERM)\n"
    "watchdog.Watch.step = then_sigterm\n",
  )
  assert process.wait(waiting.LIMIT_S) == preemption.EXIT_CODE
  assert not (tmp_path / "train_sft" / "model").exists()
  with checkpoint.open_in(tmp_path / "train_sft", keep=2) as checkpoints:
    assert checkpoints.latest() == 5
  stages.run(sft.STAGE, config, tmp_path)
  runs.assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")


def test_the_best_checkpoint_outlives_the_last_ones(tmp_path, make_config):
  """A rate that is too high makes the model worse in the third step."""
  config = make_config("sft", eval_every=1, keep_checkpoints=1, epochs=1)
  config.optimizer.update(peak_lr=3.0)
  stages.run(sft.STAGE, config, tmp_path)
  losses = runs.metrics(tmp_path, "sft", "eval/loss")
  del losses[0]
  best = min(losses, key=lambda step: losses[step])
  assert best != max(losses), "the last step is the best: nothing is shown"
  with checkpoint.open_in(tmp_path / "train_sft", keep=1) as checkpoints:
    assert checkpoints.latest() == max(losses)
    assert checkpoints.best() == best
  kept = (tmp_path / "train_sft" / "checkpoints").iterdir()
  assert sorted(int(path.name) for path in kept) == sorted({best, max(losses)})


@pytest.mark.slow
def test_the_last_good_checkpoint_outlives_a_loss_that_is_not_finite(
  tmp_path, make_config, unbroken, monkeypatch
):
  """The fifth update ruins the weights; with that fixed, the run ends as unbroken."""
  healthy = optimizer.schedule

  def ruinous(config, steps):
    rate = healthy(config, steps)
    return lambda step: jnp.where(step == 4, jnp.inf, rate(step))

  monkeypatch.setattr(optimizer, "schedule", ruinous)
  with pytest.raises(errors.UserError, match="step 6: loss nan"):
    stages.run(sft.STAGE, make_config("sft", keep_checkpoints=1), tmp_path)
  with checkpoint.open_in(tmp_path / "train_sft", keep=1) as checkpoints:
    assert checkpoints.latest() == 4
  monkeypatch.setattr(optimizer, "schedule", healthy)
  stages.run(sft.STAGE, make_config("sft", keep_checkpoints=1), tmp_path)
  runs.assert_ends_as(tmp_path, unbroken("sft", make_config), "sft")
