"""Atomic file writes, on a disk or in object storage.

On a disk a file is written under a temporary name, synced and renamed. In a bucket an
object appears when its last byte has been sent. A process that is killed at any moment
leaves no partial file under the final name.
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

import fsspec.config
from etils import epath

from vpo_jax import errors

# Buckets are read and written through fsspec, even if TensorFlow is installed.
os.environ.setdefault("EPATH_USE_TF", "false")
# Other processes write to the same folders, so listings are not cached. The blocks are
# as large as those in which weights are read (s3fs has 50 MB).
fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
fsspec.config.conf.setdefault("s3", {}).setdefault("use_listings_cache", False)
fsspec.config.conf["s3"].setdefault("default_block_size", 1 << 24)

TEMPORARY = ".aside-"  # prefix of temporary names
LEFTOVER_AGE = 60  # seconds; a younger temporary file may be in use


def is_bucket(path: epath.PathLike) -> bool:
  """Whether a path is in object storage, such as s3://bucket/folder."""
  return "://" in os.fspath(path)


@contextlib.contextmanager
def publish(path: epath.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
  """Opens a file that appears under the name `path` if the block raises no error.

  Args:
    path: the final path; missing folders are created.
    mode: "w" for text (UTF-8) or "wb" for bytes.

  Raises:
    UserError: the bucket does not exist, or refuses to be written.
  """
  path = epath.Path(path)
  if is_bucket(path):
    with _upload(path, mode) as file:
      yield file
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}"
  try:
    with temporary.open(mode) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def _upload(path: epath.Path, mode: str) -> Iterator[IO[Any]]:
  with refused(path):
    binary: Any = path.open("wb")
  try:
    if mode == "wb":
      yield binary
    else:
      text = io.TextIOWrapper(binary, "utf-8")
      yield text
      text.flush()
      text.detach()
  except BaseException:
    with contextlib.suppress(Exception):  # the error of the block is the one to raise
      binary.discard()
    binary.closed = True  # or its finalizer would send what has been written
    raise
  with refused(path):
    binary.close()


@contextlib.contextmanager
def refused(path: epath.PathLike) -> Iterator[None]:
  """A context in which refusals of an object store are user errors in one line.

  Args:
    path: the object, for the message.

  Raises:
    UserError: there is no such bucket or object, or the credentials are not accepted.
  """
  try:
    yield
  except (PermissionError, FileNotFoundError) as error:
    reason = " ".join(str(error).split())
    raise errors.UserError(
      f"{path}: the object store refuses it: {reason}; check the bucket's name and the"
      " credentials"
    ) from error


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
  if not is_bucket(folder) and folder.exists():
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
