"""Plans for several meshes and numbers of chips, as a table and as plots."""

import concurrent.futures
import copy
import itertools
import os
from collections.abc import Sequence
from typing import Any, Literal

import ml_collections
from etils import epath

from vpo_jax import errors, files
from vpo_jax.decoder import config as decoder_config
from vpo_jax.plan import chips, compile_cache, fit, models
from vpo_jax.runtime import console

Scaling = Literal["strong", "weak"]


def meshes(devices: int, tensor: Sequence[int]) -> list[dict[str, int]]:
  """Meshes to compare: fsdp with each size of `tensor`, and fsdp 8 with data."""
  sizes = [
    {"data": 1, "fsdp": devices // t, "tensor": t} for t in tensor if t <= devices
  ]
  if devices >= 16:
    sizes.append({"data": devices // 8, "fsdp": 8, "tensor": 1})
  return sizes


def run(
  stage: str,
  config: ml_collections.ConfigDict,
  model: decoder_config.DecoderConfig,
  lengths: models.Lengths,
  machines: Sequence[chips.Machine],
  scaling: Scaling,
  tensor: Sequence[int] = (1, 2),
  compile_step: fit.Compile = compile_cache.get,
) -> list[dict[str, Any]]:
  """A row of results for each machine and mesh.

  Args:
    scaling: "strong" keeps the batch size; "weak" scales it with the number of chips,
      starting from the config's on the first machine.
    tensor: sizes of the mesh's tensor axis.
  """
  cases = []
  for machine in machines:
    factor = machine.devices // machines[0].devices if scaling == "weak" else 1
    for mesh in meshes(machine.devices, tensor):
      scaled = copy.deepcopy(config)
      scaled.mesh.update(mesh)
      scaled["slots" if stage == "sample" else "batch_size"] *= factor
      cases.append((machine, mesh, scaled))

  def row(case: Any) -> dict[str, Any]:
    machine, mesh, scaled = case
    sizes = {"chip": machine.chip.name, "devices": machine.devices, **mesh}
    try:
      plan = fit.plan(stage, scaled, model, lengths, machine, compile_step)
    except errors.UserError as error:
      return sizes | {"problem": str(error)}
    memory = {
      "peak_gib": plan.memory["peak"] / chips.GIB,
      "capacity_gib": plan.capacity / chips.GIB,
      "fits": plan.fits,
    }
    return sizes | {"scaling": scaling} | memory | plan.rates

  # A compilation keeps about two cores busy.
  workers = max(1, (os.cpu_count() or 2) // 2)
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    console.progress("plan", len(cases)) as advance,
  ):
    rows = []
    for result in pool.map(row, cases):
      rows.append(result)
      advance(1, "")
  return rows


_COLUMNS = {  # heading: key, format
  "chips": ("devices", "d"),
  "data": ("data", "d"),
  "fsdp": ("fsdp", "d"),
  "tensor": ("tensor", "d"),
  "GiB": ("peak_gib", ".1f"),
  "fits": ("fits", ""),
  "s/step": ("step_seconds", ".4f"),
  "limited by": ("binds", ""),
  "examples/s": ("examples_per_second", ".1f"),
  "MFU": ("mfu", ".1%"),
}


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows as a Markdown table."""
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
  """Writes a PNG: time, memory and MFU by number of chips, one line per mesh."""
  import matplotlib.figure
  import matplotlib.ticker

  figure = matplotlib.figure.Figure(figsize=(12, 4), layout="constrained")
  axes: Any = figure.subplots(1, 3)
  counts = sorted({row["devices"] for row in rows})
  splits, markers = sorted({_split(row) for row in rows}), itertools.cycle(_MARKERS)
  for split, marker in zip(splits, markers, strict=False):
    same = [row for row in rows if _split(row) == split and "mfu" in row]
    devices = [row["devices"] for row in same]
    for axis, key in zip(axes, ("step_seconds", "peak_gib", "mfu"), strict=True):
      values = [row[key] for row in same]
      # Hollow markers keep lines visible that are drawn below others.
      axis.plot(devices, values, marker, label=split, markerfacecolor="none")
  capacity = max((row.get("capacity_gib", 0.0) for row in rows), default=0.0)
  axes[1].axhline(capacity, color="black", linestyle="--", linewidth=1)
  axes[1].annotate("capacity", (counts[0], capacity), (0, -12), **_POINTS)
  names = ("seconds per step", "peak GiB per device", "MFU")
  for axis, name in zip(axes, names, strict=True):
    axis.set(xlabel="chips", title=name, xscale="log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
  axes[2].yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
  figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=4
  )
  figure.suptitle(title)
  with files.publish(path, "wb") as file:
    figure.savefig(file, format="png", dpi=100)


_MARKERS = ("o-", "s--", "^-.", "D:", "v-", "x--")
_POINTS: Any = {"textcoords": "offset points", "fontsize": 8}


def _split(row: dict[str, Any]) -> str:
  fsdp = "fsdp" if row["data"] == 1 else f"fsdp {row['fsdp']}, data"
  return fsdp if row["tensor"] == 1 else f"{fsdp}, tensor {row['tensor']}"
