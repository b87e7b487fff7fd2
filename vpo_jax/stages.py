"""A stage is a declaration; one runner does the work that all stages have in common.

A stage reads files and writes files to one folder of the workdir. The manifest in that
folder holds the config and the fingerprints of the inputs before the work starts, and
the counts when it is finished. From it the runner decides whether the work is finished,
can continue, or was started with other settings.
"""

import contextlib
import dataclasses
import fnmatch
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import buckets, errors, files, json_input
from vpo_jax.runtime import child, console, lock, processes

MANIFEST = "manifest.json"

Counts = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Input:
  """A file or folder that a stage reads.

  Attributes:
    key: the config key that names it ("vbench.checkout" is a key of `config.vbench`),
      and its name in `Work.inputs`.
    default: where an earlier stage writes it, relative to the workdir (an absolute path
      is used as it is). It applies when the config key is empty; if there is no default
      either, the config must name the input.
    resolve: maps the config's value to a local path, for example a hub id to the
      directory of its download.
    optional: if the file does not exist, the stage runs without it.
  """

  key: str
  default: str = ""
  resolve: Callable[[str], epath.Path] = epath.Path
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
  """The argument that the runner passes to a stage's function.

  Attributes:
    name: the stage's name.
    config: the stage's config.
    folder: where the stage writes; it exists, unless it is in a bucket and empty.
    workdir: the folder that holds `folder`.
    root: the workdir of the whole run. A variant and an evaluated system have a workdir
      of their own below it.
    inputs: the inputs' paths, by config key.
  """

  name: str
  config: ml_collections.ConfigDict
  folder: epath.Path
  workdir: epath.Path
  root: epath.Path
  inputs: Mapping[str, epath.Path]

  @property
  def store(self) -> epath.Path:
    """Finished videos and scores by content, shared by all stages of a run."""
    return self.root / "store"


@dataclasses.dataclass(frozen=True)
class Unfinished:
  """What a stage's function returns when its work is not done yet.

  Examples are a dry run, and a process that made its share of the rows while other
  processes still work on theirs.
  """

  counts: Counts


Inputs = Sequence[Input]
Keys = Sequence[str]
Config = ml_collections.ConfigDict


@dataclasses.dataclass(frozen=True)
class Stage:
  """The declaration of a stage.

  Attributes:
    name: the stage's name in configs, manifests and messages.
    run: does the work and returns the counts for the manifest. An error that it raises
      before it writes a file leaves no trace.
    inputs: what it reads, or a function that returns that for a config.
    execution_keys: config keys (patterns of `fnmatch`, such as "mesh.*") that decide
      how the work is executed but not what comes out. They may change when a run
      continues.
    folder: the stage's folder in the workdir; empty means `name`.
    cheap: the work takes seconds, so it is done again when its config or an input has
      changed. Other stages refuse a change, to protect what they made.
    uses_jax: computes on JAX devices. If other work follows on the same machine, it
      runs in a process of its own, because JAX keeps a GPU's memory until the end of
      the process.
    part: of a stage that several runs may share, the part of the work that a config
      asks for. Runs of one part exclude each other.
    handles_sigterm: saves its state on SIGTERM and exits (see `runtime.preemption`).
  """

  name: str
  run: Callable[[Work], Counts | Unfinished]
  inputs: Inputs | Callable[[Config], Inputs] = ()
  execution_keys: Keys | Callable[[Config], Keys] = ()
  folder: str | Callable[[Config], str] = ""
  cheap: bool = False
  uses_jax: bool = False
  handles_sigterm: bool = False
  part: Callable[[Config], str] | None = None

  def inputs_for(self, config: Config) -> Inputs:
    return self.inputs(config) if callable(self.inputs) else self.inputs

  def execution_keys_for(self, config: Config) -> Keys:
    keys = self.execution_keys
    return keys(config) if callable(keys) else keys

  def folder_for(self, config: Config) -> str:
    folder = self.folder(config) if callable(self.folder) else self.folder
    return folder or self.name


def run(
  stage: Stage,
  config: Config,
  workdir: epath.PathLike,
  root: epath.PathLike | None = None,
  *,
  own_process: bool = False,
) -> Counts:
  """Runs a stage unless its work is finished; returns its counts.

  Args:
    config: the stage's own config; stored whole in the manifest.
    root: the workdir of the whole run; None means `workdir`.
    own_process: work that uses JAX runs in a child process, so that this process never
      occupies a device.

  Raises:
    UserError: a bucket cannot be read (`buckets.check`), an input is missing, another
      run is at work on the stage, its folder holds work that was made with other
      settings or inputs, or whatever `stage.run` raises.
  """
  workdir = epath.Path(workdir)
  buckets.check(workdir)
  folder = workdir / stage.folder_for(config)
  inputs = _locate(stage, config, workdir)
  work = Work(stage.name, config, folder, workdir, epath.Path(root or workdir), inputs)
  manifest = {
    "stage": stage.name,
    "config": config.to_dict(),
    "inputs": {
      key: {"path": str(path), "fingerprint": files.fingerprint(path)}
      for key, path in inputs.items()
    },
  }
  with _lock(stage, work):
    return _run_locked(stage, work, manifest, own_process)


def _run_locked(
  stage: Stage, work: Work, manifest: Counts, own_process: bool
) -> Counts:
  folder = work.folder
  with processes.main_process_first(f"{stage.name} begins"):
    counts = _begin(stage, folder, manifest)
  if counts is not None:
    return counts
  began = time.time()
  try:
    if own_process and stage.uses_jax:
      result = child.call(stage.name, _run_in_child, stage.run, work)
    else:
      result = stage.run(work)
  except errors.UserError:
    _remove_if_empty(folder)
    raise
  if isinstance(result, Unfinished):
    _remove_if_empty(folder)
    return result.counts
  took = {"seconds": round(time.time() - began, 1), "counts": result}
  if processes.first():
    files.write_json(folder / MANIFEST, manifest | took)
    buckets.forget(folder)  # all of it that is needed is in the bucket
  processes.barrier(f"{stage.name} finished")
  return result


@contextlib.contextmanager
def _lock(stage: Stage, work: Work) -> Iterator[None]:
  """A context in which no other run works on the stage's folder."""
  if not processes.first():
    yield
    return
  part = f"-{stage.part(work.config)}" if stage.part else ""
  with lock.held(work.workdir / f".{work.folder.name}{part}.lock"):
    yield


def _run_in_child(
  work_of: Callable[[Work], Counts | Unfinished], work: Work
) -> Counts | Unfinished:
  from vpo_jax.runtime import compilation

  compilation.enable_cache(work.root)
  return work_of(work)


def finished_counts(folder: epath.PathLike) -> Counts | None:
  """The counts of the finished work in a stage's folder; None if it is not finished."""
  path = epath.Path(folder) / MANIFEST
  return json_input.value(path).get("counts") if path.exists() else None


def _locate(stage: Stage, config: Config, workdir: epath.Path) -> dict[str, epath.Path]:
  """The paths of a stage's inputs by key."""
  found = {}
  for one in stage.inputs_for(config):
    named = named_input(config, one.key)
    if not named and not one.default:
      raise errors.UserError(f"{stage.name}: config.{one.key} is empty; set it")
    if named:
      buckets.check(str(named))
      path = one.resolve(str(named))
    else:  # a local path joined with that of a bucket would be a folder named "s3:"
      path = epath.Path(one.default)
      path = path if files.is_bucket(path) else workdir / path
      buckets.check(path)
    if path.exists():
      found[one.key] = path
    elif not one.optional:
      hint = "" if named else "; run the stage that makes it first"
      raise errors.UserError(f"{stage.name}: {one.key} {path} does not exist{hint}")
  return found


def named_input(config: Config, key: str) -> str:
  """The value of a key such as "vbench.checkout"; "" if the config does not have it."""
  value: Any = config
  for part in key.split("."):
    value = value.get(part, "") if isinstance(value, Config) else ""
  return value


def _begin(stage: Stage, folder: epath.Path, manifest: Counts) -> Counts | None:
  """Writes the manifest unless the work is finished; returns finished work's counts."""
  found = None
  if (folder / MANIFEST).exists():
    found = json_input.value(folder / MANIFEST)
    execution = stage.execution_keys_for(ml_collections.ConfigDict(manifest["config"]))
    change = _change(found, manifest, execution)
    if change and stage.cheap:
      console.say(f"{stage.name}: {change}; running it again")
      if processes.first():
        folder.rmtree()
        buckets.forget(folder)
      found = None
    elif change and not _is_empty(folder):
      raise errors.UserError(
        f"{folder} was made with other settings: {change}; use another --workdir, or"
        " remove that folder to make it again"
      )
    elif change:
      found = None
  if found and found.get("counts") is not None:
    return found["counts"]
  if processes.first():
    if not found:
      buckets.forget(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / MANIFEST, manifest)
    files.remove_leftovers(folder)
  return None


def _change(found: Any, wanted: Any, execution_keys: Keys) -> str:
  """The first difference between two manifests that changes results; "" for none."""
  old, new = flat(found["config"]), flat(wanted["config"])
  for key in sorted(old.keys() | new.keys()):
    if any(fnmatch.fnmatchcase(key, pattern) for pattern in execution_keys):
      continue
    if key not in old and not new[key]:
      continue  # a newer version added the key, and it is off
    if old.get(key) != new.get(key):
      return f"config.{key} was {old.get(key)!r} and is now {new.get(key)!r}"
  for key, there in wanted["inputs"].items():
    if found["inputs"].get(key, {}).get("fingerprint") != there["fingerprint"]:
      return f"its input {key} ({there['path']}) has changed"
  return ""


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  """Values by dotted key; tuples become lists, as they are read back from JSON."""
  found: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      found |= flat(value, f"{prefix}{key}.")
    else:
      found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
  return found


def _is_empty(folder: epath.Path) -> bool:
  """Whether a folder holds nothing but a manifest of work that is not finished."""
  names = {path.name for path in folder.iterdir()}
  if files.is_bucket(folder):
    names |= buckets.local_names(folder)  # such as a journal that is not stored yet
  return names <= {MANIFEST} and finished_counts(folder) is None


def _remove_if_empty(folder: epath.Path) -> None:
  if processes.first() and folder.exists() and _is_empty(folder):
    folder.rmtree()
