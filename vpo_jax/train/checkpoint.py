"""Orbax checkpoints of the whole training state."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from vpo_jax import errors, files
from vpo_jax.runtime import console, processes
from vpo_jax.train import mirror as mirrors
from vpo_jax.train import step as train_step

# In errors of JAX and of object storage that say nothing of a checkpoint's files.
_NO_DAMAGE = (
  "RESOURCE_EXHAUSTED",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
)


class Checkpoints:
  """The checkpoints of one run.

  On accelerators they are saved asynchronously, except to s3://.

  A checkpoint whose save was interrupted has no commit mark and is never restored.
  """

  def __init__(self, manager: ocp.CheckpointManager, mirror: mirrors.Mirror):
    self._manager = manager
    self._mirror = mirror

  def latest(self) -> int | None:
    """The step of the last complete checkpoint; None if there is none."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """The step of the kept checkpoint with the lowest `loss`."""
    return self._manager.best_step()

  def save(self, step: int, state: train_step.State, loss: float | None) -> None:
    """Saves a checkpoint.

    Args:
      step: the number of finished steps.
      loss: the held-out loss; None if it was not measured at this step.

    Raises:
      UserError: the disk has too little free space.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    self._check_space(size)
    metrics = None if loss is None else {"loss": loss}
    self._manager.save(step, metrics=metrics, args=ocp.args.PyTreeSave(state))
    if jax.default_backend() == "cpu":
      # The files are written from the state's own memory. If the next step ran now, it
      # could not reuse that memory and would need as much again.
      self.wait()
    if self._mirror.on:
      self.wait()
      self._mirror.store()

  def _check_space(self, size: int) -> None:
    folder = self._manager.directory
    if files.is_bucket(folder):
      return
    free = shutil.disk_usage(folder).free
    if free < size:
      raise errors.UserError(
        f"{folder}: the disk is full: a checkpoint takes {size / 1e9:.1f} GB and"
        f" {free / 1e9:.1f} GB are free; the last one is kept, free some space and run"
        " the same command again"
      )

  def restore_latest(self, like: train_step.State) -> tuple[int, train_step.State]:
    """Restores the last checkpoint that can be read, whatever mesh it was saved on.

    A damaged checkpoint is reported and renamed, and the one before it is used.

    Args:
      like: has the shapes and shardings of the result; returned if there is none.

    Returns: the number of finished steps, 0 if there is no checkpoint; and the state.

    Raises:
      UserError: all checkpoints are damaged.
      Exception: the memory is full, or the storage does not answer or refuses.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      state, problem = None, ""
      try:
        state = self._restore(step, like)
      except Exception as error:  # files cut short fail in many ways
        if not _is_damage(error):
          raise
        problem = " ".join(str(error).split())[:200] or type(error).__name__
      # The damaged file may be one that only some processes read.
      if processes.all_agree(not problem) and state is not None:
        return step, state
      console.say(
        f"{self._manager.directory / str(step)}: the checkpoint is damaged ({problem});"
        " the one before it is used"
      )
      self._set_aside(step)
    if steps:
      raise errors.UserError(
        f"{self._manager.directory}: all {len(steps)} checkpoints are damaged; remove"
        " the stage's folder to train from the start"
      )
    return 0, like

  def _set_aside(self, step: int) -> None:
    """Renames a damaged checkpoint, so that its step can be saved again."""
    if processes.first():
      folder = self._manager.directory / str(step)
      folder.rename(self._manager.directory / f"damaged-{step}")
      self._mirror.store()
    processes.barrier(f"checkpoint {step} set aside")
    self._manager.reload()

  def _restore(self, step: int, like: train_step.State) -> train_step.State:
    abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    placed = ocp.checkpoint_utils.construct_restore_args(abstract)
    restore = ocp.args.PyTreeRestore(abstract, restore_args=placed)
    restored: Any = self._manager.restore(step, args=restore)
    return restored

  def wait(self) -> None:
    self._manager.wait_until_finished()


def _is_damage(error: Exception) -> bool:
  """Whether an error in reading a checkpoint says something about its files."""
  if isinstance(error, MemoryError | PermissionError | ConnectionError | TimeoutError):
    return False
  return not any(word in str(error) for word in _NO_DAMAGE)


@contextlib.contextmanager
def open_in(folder: epath.PathLike, keep: int) -> Iterator[Checkpoints]:
  """Opens `folder/checkpoints`; waits for pending saves at the end.

  Args:
    keep: how many of the latest checkpoints to keep, in addition to the best one.

  Raises:
    UserError: a checkpoint could not be written because the disk is full, or whatever
      `mirror.Mirror` raises.
  """
  mirror = mirrors.Mirror(epath.Path(folder) / "checkpoints")
  path = mirror.local
  path.mkdir(parents=True, exist_ok=True)
  best = preservation_policy.BestN(
    get_metric_fn=lambda metrics: -metrics["loss"],
    n=1,
    keep_checkpoints_without_metrics=False,
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=preservation_policy.AnyPreservationPolicy(
      [preservation_policy.LatestN(keep), best]
    ),
    best_fn=lambda metrics: metrics["loss"],
    best_mode="min",
    cleanup_tmp_directories=True,
  )
  # Compression saves only an eighth of the size and competes with the step for cores.
  handler = ocp.PyTreeCheckpointHandler(use_compression=False)
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for args in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
    registry.add("default", args, handler)
  try:
    with ocp.CheckpointManager(
      path, handler_registry=registry, options=options
    ) as manager:
      yield Checkpoints(manager, mirror)
  except (OSError, RuntimeError, ValueError) as error:
    # TensorStore reports a full disk only in the text of its own error.
    if "Failed writing" in str(error) or "No space left" in str(error):
      raise errors.UserError(
        f"{path}: the disk is full; the last complete checkpoint is kept, free some"
        " space and run the same command again"
      ) from error
    raise
