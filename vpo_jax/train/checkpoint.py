"""Orbax checkpoints of the whole training state."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from vpo_jax import errors
from vpo_jax.train import step as train_step


class Checkpoints:
  """The checkpoints of one run; on accelerators, saves while training goes on.

  A checkpoint cut short has no commit mark and is never chosen.
  """

  def __init__(self, manager: ocp.CheckpointManager):
    self._manager = manager

  def latest(self) -> int | None:
    """The last whole checkpoint's step."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """The step with the least `loss` of those kept."""
    return self._manager.best_step()

  def save(self, step: int, state: train_step.State, loss: float | None) -> None:
    """Saves; `loss` is the held-out one, None where it was not measured.

    Raises:
      UserError: the disk has no room for it.
    """
    wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(self._manager.directory).free
    if free < wanted:
      raise errors.UserError(
        f"{self._manager.directory}: the disk is full: a checkpoint takes"
        f" {wanted / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; the last one is kept,"
        " make room and run the same command again"
      )
    metrics = None if loss is None else {"loss": loss}
    self._manager.save(step, metrics=metrics, args=ocp.args.PyTreeSave(state))
    if jax.default_backend() == "cpu":
      # The files are written from the state's own memory, which the next step could not
      # write into: it would take as much again, and longer than the wait.
      self.wait()

  def restore(self, step: int, like: train_step.State) -> train_step.State:
    """Restores onto the shapes and shardings of `like`, whatever mesh saved it."""
    abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    placed = ocp.checkpoint_utils.construct_restore_args(abstract)
    wanted = ocp.args.PyTreeRestore(abstract, restore_args=placed)
    restored: Any = self._manager.restore(step, args=wanted)
    return restored

  def wait(self) -> None:
    self._manager.wait_until_finished()


@contextlib.contextmanager
def open_in(folder: epath.PathLike, keep: int) -> Iterator[Checkpoints]:
  """Opens `folder/checkpoints`; keeps the last `keep` and the best.

  Waits for saves at the end.

  Raises:
    UserError: a checkpoint could not be written because the disk is full.
  """
  path = epath.Path(folder).resolve() / "checkpoints"
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
  # Weights hardly compress (by an eighth), and the processor has a step to compute.
  handler = ocp.PyTreeCheckpointHandler(use_compression=False)
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for way in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
    registry.add("default", way, handler)
  try:
    with ocp.CheckpointManager(
      path, handler_registry=registry, options=options
    ) as manager:
      yield Checkpoints(manager)
  except (OSError, RuntimeError, ValueError) as error:
    # TensorStore tells of a full disk in the text of an error of its own.
    if "Failed writing" in str(error) or "No space left" in str(error):
      raise errors.UserError(
        f"{path}: the disk is full; the last whole checkpoint is kept, make room and"
        " run the same command again"
      ) from error
    raise
