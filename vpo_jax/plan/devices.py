"""A training step on more and more of the devices at hand: losses, bytes, rates."""

import json
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vpo_jax import errors
from vpo_jax.bench import rows
from vpo_jax.bench import shapes as known_shapes
from vpo_jax.bench import train as bench_train
from vpo_jax.plan import count

NO_SPEED = "host devices share one CPU's cores: losses and bytes, no figure of speed"


def expect(devices: int) -> None:
  """Asks for so many host devices, where a CPU is all there is.

  Call it before JAX has looked for devices.
  """
  jax.config.update("jax_num_cpu_devices", devices)


def bench(
  kind: bench_train.Kind,
  model: str,
  queries: Sequence[str],
  counts: Sequence[int],
  *,
  batch: int,
  steps: int,
  **settings: Any,
) -> dict[str, Any]:
  """Runs `steps` timed steps on each number of devices, `mesh.fsdp` over all of them.

  Accelerators: weak scaling, the batch grows with the devices. Host devices: the batch
  is the same on all of them, the largest's, so that the losses have to agree.

  Args:
    queries: one an example.
    counts: numbers of devices.
    batch: examples a device.
    settings: of the config: precision, micro_tokens, remat.

  Returns: a row for each number of devices: losses, bytes of state that a device holds,
    bytes that it sends in a step by kind of collective; on accelerators examples/s and
    efficiency (rate a device, over that of the first row), else `loss_gap`, the largest
    relative difference from the first row's losses, and a note.

  Raises:
    UserError: more devices are asked for than there are.
  """
  there, host = jax.device_count(), jax.default_backend() == "cpu"
  if max(counts) > there:
    raise errors.UserError(f"--devices={max(counts)}: there are {there}")
  made = []
  with tempfile.TemporaryDirectory() as folder:
    place = epath.Path(folder)
    base = str(known_shapes.resolve(model, place / "model"))
    for devices in counts:
      size = batch * (max(counts) if host else devices)
      path = place / f"train{devices}.json"
      path.write_text(json.dumps(rows.make(kind, queries, size * (steps + 1))))
      config = bench_train.make_config(kind, size, shapes=1, **settings)
      config.mesh.fsdp = devices
      made.append({"devices": devices, "batch": size} | _run(kind, config, base, path))
  for row in made:
    rate = row.pop("examples_per_second")
    if host:
      first = np.array(made[0]["losses"])
      row["loss_gap"] = float(np.max(np.abs(np.array(row["losses"]) / first - 1)))
    else:
      row["examples_per_second"] = rate
      alone = made[0]["examples_per_second"] / made[0]["devices"]
      row["efficiency"] = rate / row["devices"] / alone
  return {
    "stage": kind,
    "model": model,
    "device": jax.devices()[0].device_kind,
    "steps": steps,
    **settings,
    "devices": made,
    **({"note": NO_SPEED} if host else {}),
  }


def _run(kind, config, base, path) -> dict[str, Any]:
  """The state begins as the model's weights each time."""
  program = bench_train.Program(kind, config, base, path)
  text, loops = program.compiled()
  sent: dict[str, float] = {}
  host = jax.default_backend() == "cpu"
  for (name, *_), moved in count.cost(text, loops, host=host).collectives.items():
    sent[name] = sent.get(name, 0.0) + moved
  held = program.state_bytes()
  steps = range(len(program.plan.steps))
  for step in steps:
    program(step)
  return {
    "losses": program.losses,
    "state_bytes": held,
    "sent_bytes": sent,
    "examples_per_second": program.rates(steps[1:])["examples_per_second"],
  }
