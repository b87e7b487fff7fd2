"""Compiles steps in subprocesses and caches the results on disk."""

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

from vpo_jax import errors, files, json_input
from vpo_jax.decoder import config as decoder_config
from vpo_jax.plan import hlo_cost, models, worker

# The packages and sources that a compiled step depends on, besides the request.
_PACKAGES = ("jax", "jaxlib", "libtpu", "optax")
_SOURCES = ("decoder", "data", "plan/program.py", "plan/models.py")


@dataclasses.dataclass(frozen=True)
class Request:
  """One step on one machine.

  Attributes:
    stage: sft, dpo, train_groups or sample.
    topology: a TPU slice ("v5p:2x2x2"), or `worker.HOST`.
    devices: number of devices.
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


def get(request: Request) -> dict[str, Any]:
  """Compiles a step, or loads it from the user's cache folder.

  Returns: the result of `worker.compile_step`, and `cost`: the work of one device (see
    `hlo_cost.Cost`), or None if the compiler refused the step.

  Raises:
    UserError: a request that cannot be compiled, or libtpu is not installed.
  """
  body = request.json()
  name = hashlib.sha256(
    json.dumps([body, _versions(request.stage)]).encode()
  ).hexdigest()[:16]
  cached = folder() / f"{name}.json"
  if cached.exists():
    return _with_cost(json_input.value(cached), request)
  if request.topology != worker.HOST and not _version("libtpu"):
    raise errors.UserError(
      "planning for a TPU requires its compiler (but no TPU):"
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
  files.write_json(cached, result | {"request": body})
  return _with_cost(result, request)


def _with_cost(result: dict[str, Any], request: Request) -> dict[str, Any]:
  if "text" not in result:
    return result | {"cost": None}
  host = request.topology == worker.HOST
  found = hlo_cost.analyze(text(result["text"]), result["trips"], host=host)
  counted, useful = found.flops * request.devices, result["work"]["flops"]
  if counted < 0.9 * useful:  # a loop's trip count was not recognized
    raise RuntimeError(
      f"counted {counted:.3g} FLOPs in a step that needs at least {useful:.3g}"
    )
  sent = [
    {"kind": kind, "devices": size, "per_node": per_node, "bytes": n}
    for (kind, size, per_node), n in sorted(found.collectives.items())
  ]
  cost = {"flops": found.flops, "bytes": found.bytes, "collectives": sent}
  return result | {"cost": cost}


def text(path: epath.PathLike) -> str:
  """The HLO text of a cached program."""
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
