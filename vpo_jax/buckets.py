"""Buckets as workdirs: gs:// and s3:// paths, through fsspec.

Rows, manifests, metrics and models are read and written in the bucket. A few libraries
need a real file system: SQLite, TensorBoard, polars' scans, tokenizers, the bridge's
workers, and Orbax for s3://. They work in a scratch folder on the local disk. Files are
fetched from the bucket before they are used and stored in it at safe points.

The bucket is the truth. A stage empties its scratch folder when it starts anew and when
it has finished, and a run that continues on another machine begins with an empty one.
"""

import concurrent.futures
import functools
import os
import shutil
import uuid
from collections.abc import Iterable
from typing import Any

import fsspec
from etils import epath

from vpo_jax import errors, files

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_AT_ONCE = 8  # transfers


def check(path: epath.PathLike) -> None:
  """Checks that the bucket of a path can be read; does nothing for a local path.

  Raises:
    UserError: the package for such paths is missing, the bucket does not exist, or it
      refuses or does not get the credentials.
  """
  if files.is_bucket(path):
    scheme, _, rest = os.fspath(path).partition("://")
    _check(scheme, rest.partition("/")[0])


@functools.cache
def _check(scheme: str, bucket: str) -> None:
  where = f"{scheme}://{bucket}"
  if scheme not in _PACKAGES:
    raise errors.UserError(f"{where}: paths are local, or begin with s3:// or gs://")
  try:
    system = fsspec.filesystem(scheme)
  except ImportError as error:
    raise errors.UserError(
      f"{where}: {scheme}:// paths need a package: pip install {_PACKAGES[scheme]}"
    ) from error
  try:
    system.ls(bucket, detail=False)
  except Exception as error:  # each package and its HTTP client raise their own
    reason = " ".join(str(error).split())[:200]
    raise errors.UserError(
      f"{where}: the bucket cannot be read: {reason}; check its name, the credentials"
      " and the endpoint"
    ) from error


def scratch(path: epath.PathLike) -> epath.Path:
  """The local path that stands for a path in a bucket; a local path as it is.

  It is below $VPO_JAX_SCRATCH, or else `scratch` in the cache folder.
  """
  path = epath.Path(path)
  if not files.is_bucket(path):
    return path
  root = os.environ.get("VPO_JAX_SCRATCH") or files.cache_folder() / "scratch"
  scheme, _, rest = os.fspath(path).partition("://")
  return epath.Path(root).expanduser().resolve() / scheme / rest


def forget(path: epath.PathLike) -> None:
  """Removes the scratch file or folder of a path in a bucket."""
  if files.is_bucket(path):
    local = scratch(path)
    if local.is_dir():
      shutil.rmtree(local, ignore_errors=True)
    else:
      local.unlink(missing_ok=True)


def names(folder: epath.PathLike) -> set[str]:
  """The objects below a folder of a bucket, relative to it."""
  system, root = _system(folder)
  return {found.removeprefix(f"{root}/") for found in system.find(root)}


def fetch(path: epath.PathLike, target: epath.PathLike = "") -> None:
  """Copies a file of a bucket to a local path; does nothing for a local path.

  Args:
    target: the local path; "" is the scratch path of `path`.

  Raises:
    UserError: there is no such object, or the object store refuses it.
  """
  if not files.is_bucket(path):
    return
  system, remote = _system(path)
  local = epath.Path(target or scratch(path))
  local.parent.mkdir(parents=True, exist_ok=True)
  aside = local.parent / f"{files.TEMPORARY}{uuid.uuid4().hex}-{local.name}"
  try:
    with files.refused(path):
      system.get_file(remote, os.fspath(aside))
    aside.replace(local)
  finally:
    aside.unlink(missing_ok=True)


def store(path: epath.PathLike, source: epath.PathLike = "") -> None:
  """Copies a local file to a path in a bucket; does nothing for a local path.

  Args:
    source: the local file; "" is the scratch path of `path`.

  Raises:
    UserError: the object store refuses it.
  """
  if files.is_bucket(path):
    system, remote = _system(path)
    with files.refused(path):
      system.put_file(os.fspath(source or scratch(path)), remote)


def fetch_all(folder: epath.PathLike, wanted: Iterable[str]) -> None:
  """Fetches files of a folder, given by names relative to it."""
  _each(fetch, folder, wanted)


def store_all(folder: epath.PathLike, wanted: Iterable[str] | None = None) -> None:
  """Stores files of a folder, by default all; `wanted` are names relative to it."""
  if files.is_bucket(folder):
    _each(store, folder, local_names(folder) if wanted is None else wanted)


def local_names(folder: epath.PathLike) -> set[str]:
  """The files in the scratch folder of `folder`, relative to it."""
  root = os.fspath(scratch(folder))
  return {
    os.path.relpath(os.path.join(parent, name), root)
    for parent, _, found in os.walk(root)
    for name in found
    if not name.startswith(files.TEMPORARY)
  }


def _each(do: Any, folder: epath.PathLike, wanted: Iterable[str]) -> None:
  root = epath.Path(folder)
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    list(pool.map(lambda name: do(root / name), wanted))


def _system(path: epath.PathLike) -> tuple[Any, str]:
  """The file system of a path in a bucket, and the path without its scheme."""
  scheme, _, rest = os.fspath(path).partition("://")
  return fsspec.filesystem(scheme), rest
