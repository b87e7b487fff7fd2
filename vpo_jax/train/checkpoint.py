"""Orbax checkpoints of the whole training state."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from vpo_jax.train import step as train_step


class Checkpoints:
  """The checkpoints of one run; saves while training goes on.

  A checkpoint cut short has no commit mark and is never chosen.
  """

  def __init__(self, manager: ocp.CheckpointManager):
    self._manager = manager

  def latest(self) -> int | None:
    """The last whole checkpoint's step."""
    return self._manager.latest_step()

  def save(self, step: int, state: train_step.State) -> None:
    self._manager.save(step, args=ocp.args.StandardSave(state))

  def restore(self, step: int, like: train_step.State) -> train_step.State:
    """Restores onto the shapes and shardings of `like`, whatever mesh saved it."""
    abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

  def wait(self) -> None:
    self._manager.wait_until_finished()


@contextlib.contextmanager
def open_in(folder: epath.PathLike, keep: int) -> Iterator[Checkpoints]:
  """Opens `folder/checkpoints`, keeping the last `keep`; waits for saves at the end."""
  path = epath.Path(folder).resolve() / "checkpoints"
  path.mkdir(parents=True, exist_ok=True)
  options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
  with ocp.CheckpointManager(path, options=options) as manager:
    yield Checkpoints(manager)
