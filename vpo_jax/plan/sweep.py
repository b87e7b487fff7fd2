"""Many plans: a table and plots over meshes and numbers of chips."""

import concurrent.futures
import copy
import os
from collections.abc import Sequence
from typing import Any, Literal

import ml_collections
from etils import epath

from vpo_jax import console, errors, files
from vpo_jax.llama import config as llama_config
from vpo_jax.plan import chips, compiles, fit, models

Scaling = Literal["strong", "weak"]


def meshes(devices: int, tensor: Sequence[int]) -> list[dict[str, int]]:
  """All of fsdp, then each of `tensor`, then two copies of what is left."""
  made = [
    {"data": 1, "fsdp": devices // t, "tensor": t} for t in tensor if t <= devices
  ]
  if devices >= 16:
    made.append({"data": devices // 8, "fsdp": 8, "tensor": 1})
  return made


def run(
  stage: str,
  config: ml_collections.ConfigDict,
  model: llama_config.LlamaConfig,
  lengths: models.Lengths,
  machines: Sequence[chips.Machine],
  scaling: Scaling,
  tensor: Sequence[int] = (1, 2),
  find: fit.Find = compiles.find,
) -> list[dict[str, Any]]:
  """A row for each machine and mesh.

  Args:
    scaling: "strong" keeps the batch; "weak" lets it grow with the chips, from the
      config's on the first machine.
  """
  wanted = []
  for machine in machines:
    grown = machine.devices // machines[0].devices if scaling == "weak" else 1
    for mesh in meshes(machine.devices, tensor):
      one = copy.deepcopy(config)
      one.mesh.update(mesh)
      key = "slots" if stage == "sample" else "batch_size"
      one[key] *= grown
      wanted.append((machine, mesh, one))

  def row(item: Any) -> dict[str, Any]:
    machine, mesh, one = item
    shown = {"chip": machine.chip.name, "devices": machine.devices, **mesh}
    try:
      plan = fit.plan(stage, one, model, lengths, machine, find)
    except errors.UserError as error:
      return shown | {"problem": str(error)}
    peak = plan.memory["peak"] / chips.GIB
    return (
      shown | {"scaling": scaling, "peak_gib": peak, "fits": plan.fits} | plan.rates
    )

  # A compilation keeps two cores busy, about.
  workers = max(1, (os.cpu_count() or 2) // 2)
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    console.progress("plan", len(wanted)) as advance,
  ):
    rows = []
    for made in pool.map(row, wanted):
      rows.append(made)
      advance(1, "")
  return rows


_COLUMNS = {  # heading: key, how it is written
  "chips": ("devices", "d"),
  "data": ("data", "d"),
  "fsdp": ("fsdp", "d"),
  "tensor": ("tensor", "d"),
  "GiB": ("peak_gib", ".1f"),
  "fits": ("fits", ""),
  "s/step": ("step_seconds", ".4f"),
  "binds": ("binds", ""),
  "examples/s": ("examples_per_second", ".1f"),
  "MFU": ("mfu", ".1%"),
}


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Markdown."""
  lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
  for row in rows:
    cells = [
      format(row[key], spec) if key in row and spec else str(row.get(key, ""))
      for key, spec in _COLUMNS.values()
    ]
    lines.append("| " + " | ".join(cells) + " |")
    if "problem" in row:
      lines[-1] += f" {row['problem']}"
  return "\n".join(lines)


def plots(rows: Sequence[dict[str, Any]], path: epath.PathLike, title: str) -> None:
  """Time, memory and efficiency against chips, one line a split, as one PNG."""
  import matplotlib.figure

  figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
  axes: Any = figure.subplots(1, 3)
  counts = sorted({row["devices"] for row in rows})
  for split in sorted({_split(row) for row in rows}):
    same = [row for row in rows if _split(row) == split and "mfu" in row]
    devices = [row["devices"] for row in same]
    for axis, key in zip(axes, ("step_seconds", "peak_gib", "mfu"), strict=True):
      axis.plot(devices, [row[key] for row in same], marker="o", label=split)
  names = ("seconds a step", "peak GiB a device", "MFU")
  for axis, name in zip(axes, names, strict=True):
    axis.set(xlabel="chips", ylabel=name, xscale="log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
  axes[0].legend(fontsize=7)
  figure.suptitle(title)
  with files.publish(path, "wb") as file:
    figure.savefig(file, format="png", dpi=110)


def _split(row: dict[str, Any]) -> str:
  fsdp = "fsdp" if row["data"] == 1 else f"fsdp {row['fsdp']}, data"
  return fsdp if row["tensor"] == 1 else f"{fsdp}, tensor {row['tensor']}"
