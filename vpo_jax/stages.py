"""A stage of the method: files in, files out, and a manifest beside them.

Every stage owns one folder of the workdir. The manifest states the config and the
fingerprints of the inputs before any work starts, and the counts when it is done, so
that a stage run again knows whether its work is finished, begun, or another's.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files
from vpo_jax.runtime import processes

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage's folder, opened for work.

  Attributes:
    folder: where the stage writes; `begin` makes it.
    counts: what the finished stage reported; None while there is work to do.
  """

  name: str
  folder: epath.Path
  counts: dict[str, Any] | None
  _manifest: dict[str, Any]
  _began: float

  def finish(self, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Publishes the manifest with what happened; call it last. Returns `counts`."""
    done = {"seconds": round(time.time() - self._began, 1), "counts": dict(counts)}
    if processes.first():
      files.write_json(self.folder / MANIFEST, self._manifest | done)
    processes.meet(f"{self.name} finished")
    return dict(counts)


def begin(
  name: str,
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  inputs: Mapping[str, epath.PathLike],
) -> Stage:
  """Opens a stage's folder, and checks that it is this work's.

  Args:
    name: the stage and its folder under `workdir`.
    config: the stage's own config, stored whole (it never holds a secret).
    inputs: the files or folders that the stage reads, by role.

  Raises:
    UserError: an input is missing, or the folder holds work made with another config
      or from other inputs.
  """
  folder = epath.Path(workdir) / name
  manifest = {
    "stage": name,
    "config": config.to_dict(),
    "inputs": {role: _describe(name, role, path) for role, path in inputs.items()},
  }
  counts = None
  with processes.first_goes_first(f"{name} begun"):
    if (folder / MANIFEST).exists():
      found = files.read_json(folder / MANIFEST)
      _check_same(folder, found, manifest)
      counts = found.get("counts")
    else:
      folder.mkdir(parents=True, exist_ok=True)
      files.write_json(folder / MANIFEST, manifest)
    if counts is None and processes.first():
      files.sweep(folder)
  return Stage(name, folder, counts, manifest, time.time())


def _describe(name: str, role: str, path: epath.PathLike) -> dict[str, str]:
  path = epath.Path(path)
  if not path.exists():
    raise errors.UserError(f"{name}: {role} {path} does not exist")
  return {"path": str(path), "fingerprint": files.fingerprint(path)}


def _check_same(folder: epath.Path, found: Any, wanted: Any) -> None:
  old, new = _flat(found["config"]), _flat(wanted["config"])
  for key in sorted(old.keys() | new.keys()):
    # JSON has no tuples: compare what would be read back.
    if old.get(key) != new.get(key):
      raise errors.UserError(
        f"{folder} holds work made with {key}={old.get(key)!r}, asked for"
        f" {key}={new.get(key)!r}; use another --workdir or remove that folder"
      )
  for role, there in wanted["inputs"].items():
    if found["inputs"].get(role, {}).get("fingerprint") != there["fingerprint"]:
      raise errors.UserError(
        f"{folder} holds work made from another {role} ({there['path']} has changed);"
        " use another --workdir or remove that folder"
      )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
  return flat
