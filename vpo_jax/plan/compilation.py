"""Compilations by worker processes, kept: asked again, the answer is there."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files
from vpo_jax.decoder import config as decoder_config
from vpo_jax.plan import count, models, worker

# What the compiled step depends on, besides the request.
_PACKAGES = ("jax", "jaxlib", "libtpu", "optax")
_SOURCES = ("decoder", "data", "plan/program.py", "plan/models.py")


@dataclasses.dataclass(frozen=True)
class Request:
  """One step on one machine.

  Attributes:
    stage: sft, dpo or sample.
    topology: a TPU's ("v5p:2x2x2"), or `worker.HOST`.
    devices: how many.
  """

  stage: str
  config: ml_collections.ConfigDict
  model: decoder_config.DecoderConfig
  lengths: models.Lengths
  topology: str
  devices: int

  def json(self) -> dict[str, Any]:
    return dataclasses.asdict(self) | {"config": self.config.to_json(sort_keys=True)}


def folder() -> epath.Path:
  return files.cache_folder() / "plans"


def find(request: Request) -> dict[str, Any]:
  """What `worker.answer` says of a request, and `cost`: what `count` finds in it.

  The answer and the compiled program's text are kept in the user's cache folder.

  Raises:
    UserError: the request makes no sense, or libtpu is not installed.
  """
  body = request.json()
  name = hashlib.sha256(
    json.dumps([body, _versions(request.stage)]).encode()
  ).hexdigest()[:16]
  kept = folder() / f"{name}.json"
  if kept.exists():
    return _counted(files.read_json(kept), request)
  if request.topology != worker.HOST and not _version("libtpu"):
    raise errors.UserError(
      "planning for a TPU wants its compiler, which needs no TPU:"
      ' pip install -c constraints.txt -e ".[tpu]"'
    )
  ran = subprocess.run(
    [sys.executable, "-m", "vpo_jax.plan.worker"],
    input=json.dumps(body | {"text": str(folder() / f"{name}.hlo.gz")}),
    env=worker.environment(request.topology, request.devices),
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    check=False,
  )
  if ran.returncode:
    raise RuntimeError(f"the compiling process failed:\n{ran.stderr[-4000:]}")
  result = json.loads(ran.stdout.strip().splitlines()[-1])
  if "error" in result:
    raise errors.UserError(result["error"])
  files.write_json(kept, result | {"request": body})
  return _counted(result, request)


def _counted(result: dict[str, Any], request: Request) -> dict[str, Any]:
  """With `cost`: one device's step; None where the compiler refused."""
  if "text" not in result:
    return result | {"cost": None}
  host = request.topology == worker.HOST
  found = count.cost(text(result["text"]), result["loops"], host=host)
  done, useful = found.flops * request.devices, result["work"]["flops"]
  if done < 0.9 * useful:  # a loop's turns were not seen
    raise RuntimeError(f"counted {done:.3g} FLOPs of a step of at least {useful:.3g}")
  sent = [
    {"kind": kind, "devices": size, "beside": beside, "bytes": moved}
    for (kind, size, beside), moved in sorted(found.collectives.items())
  ]
  cost = {"flops": found.flops, "bytes": found.bytes, "collectives": sent}
  return result | {"cost": cost}


def text(path: epath.PathLike) -> str:
  """A kept program."""
  return gzip.decompress(epath.Path(path).read_bytes()).decode()


def _versions(stage: str) -> list[str]:
  digest = hashlib.sha256()
  package = pathlib.Path(__file__).parents[1]
  for part in (*_SOURCES, "sample" if stage == "sample" else "train"):
    path = package / part
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
      digest.update(file.read_bytes())
  return [*map(_version, _PACKAGES), digest.hexdigest()]


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ""
