"""Atomic file writes, on a disk or in object storage.

A file is written under a temporary name, synced and renamed. A process that is killed
at any moment leaves no partial file under the final name.
"""

import contextlib
import hashlib
import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import IO, Any

from etils import epath

TEMPORARY = ".aside-"  # prefix of temporary names
LEFTOVER_AGE = 60  # seconds; a younger temporary file may be in use


@contextlib.contextmanager
def publish(path: epath.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
  """Opens a temporary file that is renamed to `path` if the block raises no error.

  Args:
    path: the final path; missing folders are created.
    mode: "w" for text (UTF-8) or "wb" for bytes.
  """
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
  try:
    with temporary.open(mode) as file:
      yield file
      file.flush()
      # In object storage there is no descriptor; a file appears when it is closed.
      with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def write_text(path: epath.PathLike, text: str) -> None:
  """Writes `text`, atomically."""
  with publish(path) as file:
    file.write(text)


def write_json(path: epath.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  with publish(path) as file:
    json.dump(value, file, ensure_ascii=False, indent=2)
    file.write("\n")


def remove_leftovers(folder: epath.PathLike) -> None:
  """Removes temporary files in `folder` that killed processes left behind."""
  folder = epath.Path(folder)
  if folder.exists():
    for path in folder.iterdir():
      if not path.name.startswith(TEMPORARY):
        continue
      if time.time() - path.stat().mtime > LEFTOVER_AGE:
        path.rmtree() if path.is_dir() else path.unlink(missing_ok=True)


def fingerprint(path: epath.PathLike) -> str:
  """The first 16 hex digits of the SHA-256 of a file, or of a folder's files."""
  path = epath.Path(path)
  digest = hashlib.sha256()
  for part in [path] if not path.is_dir() else sorted(path.iterdir()):
    if part.is_dir():
      continue
    if path.is_dir():
      digest.update(part.name.encode())
    with part.open("rb") as file:
      while block := file.read(1 << 22):
        digest.update(block)
  return digest.hexdigest()[:16]


def cache_folder() -> epath.Path:
  """The folder for converted models and compiled programs.

  It is $VPO_JAX_CACHE, or `vpo_jax` in the user's cache folder.
  """
  root = os.environ.get("XDG_CACHE_HOME", "~/.cache")
  return epath.Path(os.environ.get("VPO_JAX_CACHE", f"{root}/vpo_jax")).expanduser()
