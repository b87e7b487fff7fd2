"""Compiles one step: reads a JSON request from stdin, writes a JSON result to stdout.

This runs in a subprocess because the number of host devices and the TPU library are
fixed for the life of a process, and because the TPU library logs to stderr.
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

HOST = "host"  # host devices, which stand in for GPUs

_OUT_OF_MEMORY = re.compile(  # both forms of libtpu's message
  r"(?:Used |temporaries \()([\d.]+)([KMGT]?)"
  r"(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)"
)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def environment(topology: str, devices: int) -> dict[str, str]:
  """The environment variables of a worker process.

  Args:
    topology: a TPU slice ("v5p:2x2x2"), or `HOST`.
    devices: number of devices, for `HOST`.
  """
  variables = dict(os.environ) | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
  if topology == HOST:
    flag = "--xla_force_host_platform_device_count"
    flags = re.sub(rf"{flag}=\d+", "", variables.get("XLA_FLAGS", ""))
    variables["XLA_FLAGS"] = f"{flags} {flag}={devices}"
  return variables


def compile_step(request: dict[str, Any]) -> dict[str, Any]:
  """Lowers and compiles a step.

  Args:
    request: `stage`, `config` (JSON text), `model`, `lengths`, `topology`, and `text`,
      the file for the compiled program.

  Returns: `memory` (bytes per device, by kind), `work`, `about`, `compile_seconds`,
    `text` and `trips`. If the TPU compiler runs out of memory, `memory` has the numbers
    of its error and there is no `text`. A user error is returned as `error`.
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
    except Exception as error:  # C++ errors have no common class
      return {"error": f"topology {request['topology']}: {_first_line(error)}"}
  model = pydantic.TypeAdapter(decoder_config.DecoderConfig).validate_python(
    request["model"]
  )
  try:
    lowered = program.lower(
      request["stage"],
      ml_collections.ConfigDict(json.loads(request["config"])),
      model,
      models.Lengths(**request["lengths"]),
      devices,
    )
  except errors.UserError as error:
    return {"error": str(error)}
  result: dict[str, Any] = {
    "about": lowered.about,
    "work": vars(lowered.work),
    "memory": dict(lowered.bytes),
  }
  began = time.perf_counter()
  try:
    compiled = lowered.lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    exceeded = out_of_memory(str(error))
    if not exceeded:
      raise
    result["memory"] |= exceeded
    return result
  result["compile_seconds"] = time.perf_counter() - began
  result["memory"] |= memory(compiled)
  with files.publish(request["text"], "wb") as file:
    file.write(gzip.compress(compiled.as_text().encode()))
  result["text"], result["trips"] = request["text"], lowered.trips
  return result


def out_of_memory(text: str) -> dict[str, float] | None:
  """`peak` and `capacity` (bytes) from libtpu's out-of-memory error, else None."""
  found = _OUT_OF_MEMORY.search(text)
  if not found:
    return None
  peak, capacity = (float(found[i]) * 2 ** _UNITS[found[i + 1]] for i in (1, 3))
  return {"peak": peak, "capacity": capacity}


def memory(compiled: Any) -> dict[str, int]:
  """Bytes on one device while the step runs: `temporaries` and `peak`."""
  m = compiled.memory_analysis()
  arrays = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
  return {
    "temporaries": m.temp_size_in_bytes,
    "peak": arrays + m.temp_size_in_bytes + m.generated_code_size_in_bytes,
  }


def _first_line(error: BaseException) -> str:
  return str(error).strip().splitlines()[0][:300]


if __name__ == "__main__":
  print(json.dumps(compile_step(json.load(sys.stdin))))
