"""Files that are either whole or not there, on a disk or in a bucket.

Everything is written beside its place, synced and renamed, so that a process killed
at any moment leaves no half-written file under a real name.
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

ASIDE = ".aside-"
AGE = 60  # seconds; what was written to since may be another process's at work


@contextlib.contextmanager
def publish(path: epath.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
  """Opens a file that takes its name only when the block ends without an error.

  Args:
    path: where the file will be; its folder is made when it is missing.
    mode: "w" for text (UTF-8) or "wb" for bytes.
  """
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.parent / f"{ASIDE}{uuid.uuid4().hex}-{path.name}"
  try:
    with aside.open(mode) as file:
      yield file
      file.flush()
      # A bucket's file has no descriptor; it is whole when it is closed.
      with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())
    aside.replace(path)
  except BaseException:
    aside.unlink(missing_ok=True)
    raise


def write_json(path: epath.PathLike, value: Any) -> None:
  """Publishes `value` as indented JSON."""
  with publish(path) as file:
    json.dump(value, file, ensure_ascii=False, indent=2)
    file.write("\n")


def read_json(path: epath.PathLike) -> Any:
  return json.loads(epath.Path(path).read_text(encoding="utf-8"))


def sweep(folder: epath.PathLike) -> None:
  """Removes what killed processes left aside in `folder` more than `AGE` ago."""
  folder = epath.Path(folder)
  if folder.exists():
    for path in folder.iterdir():
      if path.name.startswith(ASIDE) and time.time() - path.stat().mtime > AGE:
        path.rmtree() if path.is_dir() else path.unlink(missing_ok=True)


def fingerprint(path: epath.PathLike) -> str:
  """First 16 hex digits of the SHA-256 of a file, or of a folder's files and names."""
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
