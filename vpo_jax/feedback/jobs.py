"""The files, interpreters and devices of the bridge's jobs: rendering and scoring."""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections

from torch_bridge import contract, scorers
from vpo_jax import files
from vpo_jax.feedback import executors, workers
from vpo_jax.runtime import console

_ENCODER = "torch_bridge.diffusion.encoder"


class Jobs:
  """The rendering, encoding and scoring that a config describes."""

  def __init__(
    self, config: ml_collections.ConfigDict, settings: dict[str, Any], model: str
  ):
    """Keeps what the workers need to know.

    Args:
      config: with `renderer`, `scorer` and `bridge`, as in configs/bridge.py.
      settings: everything that changes the frames, from `identity.settings`.
      model: the video model, also from `identity.settings`.
    """
    self._config = config
    self._settings = settings
    self._model = model
    self._pythons = {
      "render": config.renderer.python or sys.executable,
      "encode": config.renderer.python or sys.executable,
      "score": config.scorer.python or sys.executable,
    }

  def write(
    self,
    folder: pathlib.Path,
    store: pathlib.Path,
    tasks: Sequence[str] = ("render", "score"),
  ) -> dict[str, pathlib.Path]:
    """Writes a job file for each task; returns their paths by task."""
    config = self._config
    options = config.renderer.options.to_dict()
    options |= {"revision": config.renderer.revision}
    jobs = {
      "render": {
        "renderer": {
          "name": self._settings["renderer"],
          "model": self._model,
          "settings": self._settings,
          "options": options,
          "lora": {
            "path": config.renderer.lora.path,
            "scale": config.renderer.lora.scale or 1.0,
          },
        },
        "batch": config.renderer.batch,
      },
      "encode": {
        "encoder": {
          "name": _ENCODER,
          "model": self._model,
          "settings": self._settings,
          "options": options,
        },
      },
      "score": {
        "scorer": {
          "name": config.scorer.name,
          "model": config.scorer.model,
          "revision": config.scorer.revision,
          "questions": config.scorer.questions,
          "weights": config.scorer.weights,
          "options": config.scorer.options.to_dict(),
        },
      },
    }
    common = {"version": contract.VERSION, "store": str(store.resolve())}
    paths = {task: folder / task / "job.json" for task in tasks}
    for task, path in paths.items():
      files.write_json(path, common | {"task": task} | jobs[task])
    return paths

  def scorer_identity(self, paths: dict[str, pathlib.Path]) -> str:
    """The `identity` of the scorer's module, computed in the scorer's interpreter."""
    if self._config.scorer.name in scorers.NAMES:
      return ""  # a built-in scorer is identified by its model and revision
    job = {"score": paths["score"]}
    return workers.ask(job, self._pythons, "--identity")["score"]["identity"]

  def plans(self, paths: dict[str, pathlib.Path]) -> dict[str, workers.Plan]:
    """Checks the tasks' interpreters and chooses their devices, by task.

    Raises:
      UserError: an interpreter is missing or lacks packages, or it refuses the job.
    """
    with console.console.status(f"checking the packages to {' and to '.join(paths)}"):
      found = workers.ask(paths, self._pythons, "--check")
    return {
      task: self._plan(python, found[task]["devices"])
      for task, python in self._pythons.items()
      if task in paths
    }

  def _plan(self, python: str, accelerators: int) -> workers.Plan:
    config = self._config.bridge
    executor = executors.make(config)
    if isinstance(executor, executors.Ray):
      devices = ("",) * (config.workers or executor.devices())
      on_gpu = executor.gpus > 0
    else:
      devices = _devices(config, accelerators)
      on_gpu = bool(devices[0])
    return workers.Plan(
      python, executor, devices, on_gpu, config.hang_s, config.restarts
    )


def _devices(config: ml_collections.ConfigDict, found: int) -> tuple[str, ...]:
  """The device of each worker; on a CPU one worker per core, up to four (1 GB each).

  Args:
    found: how many devices the worker's interpreter sees. If CUDA_VISIBLE_DEVICES is
      set, those are the first devices in its list.
  """
  named = config.devices or (
    os.environ.get("CUDA_VISIBLE_DEVICES", "") if found else ""
  )
  devices = tuple(part.strip() for part in named.split(",") if part.strip())
  if not config.devices:
    devices = devices[:found] or tuple(str(i) for i in range(found))
  if not devices:
    return ("",) * (config.workers or min(4, os.cpu_count() or 1))
  return devices[: config.workers] if config.workers else devices
