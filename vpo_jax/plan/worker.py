"""Compiles one step in a process of its own: a request on stdin, an answer on stdout.

A process has one number of host devices and one TPU library for its whole life, and
what the TPU library logs belongs in nobody's way. JSON in, JSON out; see `answer`.
"""

import gzip
import json
import os
import re
import sys
import time
from typing import Any

import ml_collections
import pydantic

from vpo_jax import errors, files

HOST = "host"  # the platform whose devices stand in for a GPU's

_OUT_OF_MEMORY = re.compile(  # libtpu's two ways to say it
  r"(?:Used |temporaries \()([\d.]+)([KMGT]?)"
  r"(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)"
)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def environment(topology: str, devices: int) -> dict[str, str]:
  """What a worker's process is started with.

  Args:
    topology: a TPU's ("v5p:2x2x2"), or `HOST`.
    devices: how many there are, for `HOST`.
  """
  made = dict(os.environ) | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
  if topology == HOST:
    flags = made.get("XLA_FLAGS", "")
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", flags)
    made["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
  return made


def answer(request: dict[str, Any]) -> dict[str, Any]:
  """Lowers and compiles.

  Args:
    request: `stage`, `config` (JSON text), `model`, `lengths`, `topology`, `text` (the
      file to keep the compiled program in).

  Returns: `memory` (bytes a device, by kind), `work`, `about`, `compile_seconds`,
    `text`, `loops`; where the TPU's compiler refuses, `memory` holds its verdict and
    there is no `text`. `error` where the user's request makes no sense.
  """
  import jax

  from vpo_jax.decoder import config as decoder_config
  from vpo_jax.plan import models, program

  devices = jax.devices()
  if request["topology"] != HOST:
    from jax.experimental import topologies

    try:
      devices = topologies.get_topology_desc(
        platform="tpu", topology_name=request["topology"]
      ).devices
    except Exception as error:  # a C++ status of any kind
      return {"error": f"topology {request['topology']}: {_first(error)}"}
  model = pydantic.TypeAdapter(decoder_config.DecoderConfig).validate_python(
    request["model"]
  )
  try:
    made = program.lower(
      request["stage"],
      ml_collections.ConfigDict(json.loads(request["config"])),
      model,
      models.Lengths(**request["lengths"]),
      devices,
    )
  except errors.UserError as error:
    return {"error": str(error)}
  result: dict[str, Any] = {
    "about": made.about,
    "work": vars(made.work),
    "memory": dict(made.bytes),
  }
  began = time.perf_counter()
  try:
    compiled = made.lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    verdict = refusal(str(error))
    if not verdict:
      raise
    result["memory"] |= verdict
    return result
  result["compile_seconds"] = time.perf_counter() - began
  result["memory"] |= memory(compiled)
  with files.publish(request["text"], "wb") as file:
    file.write(gzip.compress(compiled.as_text().encode()))
  result["text"], result["loops"] = request["text"], made.loops
  return result


def refusal(text: str) -> dict[str, float] | None:
  """`peak` and `capacity`, in bytes, of a TPU compiler's out-of-memory error."""
  found = _OUT_OF_MEMORY.search(text)
  if not found:
    return None
  used, of = (float(found[i]) * 2 ** _UNITS[found[i + 1]] for i in (1, 3))
  return {"peak": used, "capacity": of}


def memory(compiled: Any) -> dict[str, int]:
  """Bytes of one device while the step runs: `temporaries` and `peak`."""
  m = compiled.memory_analysis()
  given = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
  return {
    "temporaries": m.temp_size_in_bytes,
    "peak": given + m.temp_size_in_bytes + m.generated_code_size_in_bytes,
  }


def _first(error: BaseException) -> str:
  return str(error).strip().splitlines()[0][:300]


if __name__ == "__main__":
  print(json.dumps(answer(json.load(sys.stdin))))
