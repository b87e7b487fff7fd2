"""Runs a training step on different numbers of this machine's devices."""

import json
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vpo_jax import errors
from vpo_jax.bench import rows, stage_step
from vpo_jax.bench import shapes as known_shapes
from vpo_jax.plan import hlo_cost

NO_SPEED = "host devices share one CPU's cores, so no speed is reported"


def set_host_devices(devices: int) -> None:
  """Splits the CPU into host devices; call it before JAX initializes."""
  jax.config.update("jax_num_cpu_devices", devices)


def bench(
  kind: stage_step.Kind,
  model: str,
  queries: Sequence[str],
  counts: Sequence[int],
  *,
  batch: int,
  steps: int,
  **settings: Any,
) -> dict[str, Any]:
  """Runs `steps` timed steps on each number of devices, with `mesh.fsdp` over them.

  On accelerators this is weak scaling: the batch grows with the devices. Host devices
  always get the batch of the largest number of devices, so that the losses must agree.

  Args:
    queries: one per example.
    counts: numbers of devices.
    batch: examples per device.
    settings: config values: precision, micro_tokens, remat.

  Returns: a row for each number of devices: losses, bytes of state per device, bytes
    sent per device and step by kind of collective. On accelerators also examples/s and
    efficiency (rate per device, relative to the first row); on host devices `loss_gap`,
    the largest relative difference from the first row's losses.

  Raises:
    UserError: there are fewer devices than requested.
  """
  available, host = jax.device_count(), jax.default_backend() == "cpu"
  if max(counts) > available:
    raise errors.UserError(f"--devices={max(counts)}: only {available} devices")
  results = []
  with tempfile.TemporaryDirectory() as folder:
    root = epath.Path(folder)
    base = str(known_shapes.resolve(model, root / "model"))
    for devices in counts:
      size = batch * (max(counts) if host else devices)
      path = root / f"train{devices}.json"
      path.write_text(json.dumps(rows.make(kind, queries, size * (steps + 1))))
      config = stage_step.make_config(kind, size, shapes=1, **settings)
      config.mesh.update(fsdp=devices, devices=devices)
      row = {"devices": devices, "batch": size}
      results.append(row | _run(kind, config, base, path))
  for row in results:
    rate = row.pop("examples_per_second")
    if host:
      first = np.array(results[0]["losses"])
      row["loss_gap"] = float(np.max(np.abs(np.array(row["losses"]) / first - 1)))
    else:
      row["examples_per_second"] = rate
      first = results[0]["examples_per_second"] / results[0]["devices"]
      row["efficiency"] = rate / row["devices"] / first
  return {
    "stage": kind,
    "model": model,
    "device": jax.devices()[0].device_kind,
    "steps": steps,
    **settings,
    "devices": results,
    **({"note": NO_SPEED} if host else {}),
  }


def _run(kind, config, base, path) -> dict[str, Any]:
  program = stage_step.read_program(kind, config, base, path)
  text, trips = program.compiled()
  sent: dict[str, float] = {}
  host = jax.default_backend() == "cpu"
  for (op, *_), n in hlo_cost.analyze(text, trips, host=host).collectives.items():
    sent[op] = sent.get(op, 0.0) + n
  state_bytes = program.state_bytes()
  steps = range(len(program.plan.steps))
  for step in steps:
    program(step)
  return {
    "losses": program.losses,
    "state_bytes": state_bytes,
    "sent_bytes": sent,
    "examples_per_second": program.rates(steps[1:])["examples_per_second"],
  }
