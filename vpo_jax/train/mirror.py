"""Checkpoints in S3: written to the scratch folder, and copied to the bucket.

Orbax writes to gs:// itself, with a commit mark, but not to s3://. A checkpoint counts
once its mark `<step>.complete` is in the bucket; the mark is written last and removed
first, so a checkpoint that was cut short is never restored. The mark holds a random
token, by which the copy in the scratch folder is known to be the same checkpoint.
"""

import shutil
import uuid

from etils import epath

from vpo_jax import buckets, errors, files
from vpo_jax.runtime import processes

_MARK = ".complete"


class Mirror:
  """The checkpoints below a path; for a path that is not in S3 it does nothing.

  Attributes:
    local: the folder that Orbax uses.
    on: whether the path is in S3.
  """

  def __init__(self, folder: epath.PathLike):
    """Fetches the bucket's checkpoints; others in the scratch folder are removed.

    Raises:
      UserError: several processes save to S3, or the object store refuses a file.
    """
    self._folder = epath.Path(folder)
    self.on = _is_on(folder)
    if not self.on:
      local = self._folder
      self.local = local if files.is_bucket(local) else local.resolve()
      return
    check(folder)
    self.local = buckets.scratch(folder)
    self.local.mkdir(parents=True, exist_ok=True)
    found = buckets.names(folder)
    complete = _complete(found)
    for path in self.local.iterdir():
      if path.name.removesuffix(_MARK) not in complete:
        path.rmtree() if path.is_dir() else path.unlink()
    for step in complete:
      self._fetch(step, found)

  def store(self) -> None:
    """Makes the bucket's checkpoints those of the local folder.

    Raises:
      UserError: the object store refuses a file.
    """
    if not self.on:
      return
    there = buckets.names(self._folder)
    complete = _complete(there)
    here = {path.name for path in self.local.iterdir() if path.name.isdigit()}
    for step in sorted(here - complete, key=int):
      if any(name.startswith(f"{step}/") for name in there):
        (self._folder / step).rmtree()  # of a copy that was cut short
      local = buckets.local_names(self._folder / step)
      buckets.store_all(self._folder / step, local)
      files.write_text(self.local / f"{step}{_MARK}", uuid.uuid4().hex)
      buckets.store(self._folder / f"{step}{_MARK}")
    for step in complete - here:
      (self._folder / f"{step}{_MARK}").unlink(missing_ok=True)
      (self.local / f"{step}{_MARK}").unlink(missing_ok=True)
    for step in {name.partition("/")[0] for name in there if "/" in name} - here:
      (self._folder / step).rmtree()

  def _fetch(self, step: str, found: set[str]) -> None:
    mark, local = self._folder / f"{step}{_MARK}", self.local / f"{step}{_MARK}"
    if local.exists() and local.read_text() == mark.read_text():
      return
    shutil.rmtree(self.local / step, ignore_errors=True)
    local.unlink(missing_ok=True)
    wanted = {name for name in found if name.startswith(f"{step}/")}
    buckets.fetch_all(self._folder, wanted)
    buckets.fetch(mark)  # last: a fetch that was cut short is done again


def check(folder: epath.PathLike) -> None:
  """Checks that checkpoints can be saved below a path.

  Raises:
    UserError: several processes save to S3.
  """
  if _is_on(folder) and processes.count > 1:
    raise errors.UserError(
      f"{folder}: several processes cannot save checkpoints to s3://; use gs:// or a"
      " disk that all machines share"
    )


def _is_on(folder: epath.PathLike) -> bool:
  return str(folder).startswith("s3://")


def _complete(names: set[str]) -> set[str]:
  return {name.removesuffix(_MARK) for name in names if name.endswith(_MARK)}
