"""Runs every stage of a config on a few queries, and forecasts the full run."""

import dataclasses
import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections
import rich.box
import rich.table
import rich.text
from etils import epath

from vpo_jax import errors, files, pipeline, stages
from vpo_jax.evaluate import evaluate
from vpo_jax.preflight import checks, forecast, usage
from vpo_jax.runtime import child, console

_STAGES = pipeline.STAGES | {evaluate.STAGE.name: evaluate.STAGE}


@dataclasses.dataclass(frozen=True)
class Row:
  """A stage of the preflight.

  Attributes:
    kind: "ok", "FAILED" or "not run".
    result: "ok", or the reason why the stage failed or was not run.
    seconds: of the few queries, with loading and compilation.
    host_gb, device_gb: peak memory; None if unknown.
  """

  stage: str
  kind: str
  result: str
  seconds: float | None = None
  host_gb: float | None = None
  device_gb: float | None = None


def run(
  config: ml_collections.ConfigDict, workdir: epath.PathLike, queries: int
) -> bool:
  """Checks, runs and forecasts; prints tables and writes `<workdir>/preflight.json`.

  Args:
    config: of the full run (`launch/pipeline.py`).
    workdir: a scratch folder; an earlier preflight in it is removed.
    queries: how many queries each half gets.

  Returns: whether everything is ready.

  Raises:
    UserError: the workdir holds files that are not from a preflight, or `queries` is
      not positive.
  """
  workdir = epath.Path(workdir)
  _clear(workdir, queries)
  # JAX would take 75 % of each GPU at once, and hide how much it needs.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  pipeline.variant_steps(config, workdir)  # raises if a variant is malformed
  with console.console.status("checking files, keys, packages and devices"):
    findings, workers = checks.check(config, workdir / "checks")
  _show_findings(findings)
  rows, measured = _run_stages(config, workdir, queries)
  forecasts, gaps = {}, []
  try:
    forecasts = forecast.forecast(config, measured, workers, workdir)
  except (KeyError, ZeroDivisionError, errors.UserError) as error:
    gaps.append(f"no forecast: {error}")
  findings = [*findings, *_disk(workdir, forecasts)]
  ready = all(one.ok for one in findings) and all(r.result == "ok" for r in rows)
  _show_rows(rows, forecasts)
  for line in gaps:
    console.say(line)
  files.write_json(
    workdir / "preflight.json",
    {
      "ready": ready,
      "queries": queries,
      "checks": [dataclasses.asdict(one) for one in findings],
      "stages": [dataclasses.asdict(one) for one in rows],
      "forecast": {k: dataclasses.asdict(v) for k, v in forecasts.items()},
    },
  )
  problems = [f"{one.part}: {one.line}" for one in findings if not one.ok]
  problems += [f"{row.stage}: {row.result}" for row in rows if row.result != "ok"]
  for line in problems:
    console.say(f"not ready: {line}")
  if ready:
    console.say("ready: every check passed, and every stage ran")
  return ready


def _clear(workdir: epath.Path, queries: int) -> None:
  if queries < 1:
    raise errors.UserError(f"--queries={queries}: must be at least 1")
  if files.is_bucket(workdir):
    raise errors.UserError(
      f"--workdir={workdir}: the preflight needs a local folder; the run itself may use"
      " a bucket"
    )
  if workdir.exists() and any(workdir.iterdir()):
    if not (workdir / "checks").exists():
      raise errors.UserError(
        f"--workdir={workdir}: holds files that are not from a preflight; name an"
        " empty folder"
      )
    workdir.rmtree()
  (workdir / "checks").mkdir(parents=True)


def small(config: ml_collections.ConfigDict, queries: int) -> ml_collections.ConfigDict:
  """The config with few queries and few steps, and rules that keep enough pairs."""
  config = config.copy_and_resolve_references()
  config.curate.sizes.update(
    sft_general=queries,
    sft_safety=1,
    dpo_general=queries,
    dpo_safety=1,
    test_general=max(queries - 1, 1),
    test_safety=1,
  )
  for name in ("build_sft", "merge_pairs", "groups"):
    config[name].heldout = 0.25
  # Enough pairs from few queries, whatever the rewards are.
  config.text_pairs.pairs = "all"
  config.video_pairs.rules.update(dominance="none", margin=0.0)
  for name in ("train_sft", config.export.trained):
    stage = config[name]
    # Three steps or more: the first compiles, the others are measured.
    stage.update(batch_size=min(stage.batch_size, 8), epochs=3)
  config.variants = ()
  if "evaluate" in config:
    config.evaluate.limit = queries
  return config


def _run_stages(
  config: ml_collections.ConfigDict, workdir: epath.Path, queries: int
) -> tuple[list[Row], dict[str, forecast.Measured]]:
  """Runs each stage in a process of its own, if the stages it needs have succeeded."""
  reduced = small(config, queries)
  rows: list[Row] = []
  measured: dict[str, forecast.Measured] = {}
  folders: set[str] = set()  # of the stages that succeeded
  steps = pipeline.stages_for(reduced)
  if "evaluate" in reduced:
    steps = (*steps, evaluate.STAGE)
  made_by_stages = {stage.folder_for(reduced[stage.name]) for stage in steps}
  for stage in steps:
    name = stage.name
    own = reduced[name]
    needed = _missing(stage, own, made_by_stages - folders)
    if needed:
      rows.append(Row(name, "not run", f"not run: it needs {' and '.join(needed)}"))
      continue
    began = time.monotonic()
    with usage.measured() as memory:
      try:
        counts = child.call(name, _run_stage, name, own, str(workdir))
        result = "ok"
      except errors.UserError as error:
        counts, result = {}, str(error)
    seconds = time.monotonic() - began
    rows.append(
      Row(
        name,
        "ok" if result == "ok" else "FAILED",
        result,
        round(seconds, 1),
        round(memory.host / 1e9, 2),
        None if memory.device is None else round(memory.device / 1e9, 2),
      )
    )
    console.say(f"preflight: {name}: {result}, {seconds:.0f} s")
    if result == "ok":
      folder = stage.folder_for(own)
      folders.add(folder)
      measured[name] = forecast.Measured(own, counts, seconds, workdir / folder)
  return rows, measured


def _missing(
  stage: stages.Stage, config: ml_collections.ConfigDict, missing: Collection[str]
) -> list[str]:
  """Those of the folders in `missing` that the stage reads."""
  inputs = stage.inputs_for(config)
  inputs = [one for one in inputs if not stages.named_input(config, one.key)]
  read = dict.fromkeys(one.default.partition("/")[0] for one in inputs)
  return [folder for folder in read if folder in missing]


def _run_stage(
  name: str, config: ml_collections.ConfigDict, workdir: str
) -> stages.Counts:
  """In the child: runs one stage."""
  from vpo_jax.runtime import compilation

  compilation.enable_cache(workdir)
  return stages.run(_STAGES[name], config, workdir)


def _disk(
  workdir: epath.Path, forecasts: Mapping[str, forecast.Forecast]
) -> list[checks.Finding]:
  """Compares the free disk space with the forecast."""
  if not forecasts:
    return []
  needed = forecast.total(forecasts).disk_gb
  free = shutil.disk_usage(workdir).free / 1e9
  line = f"{free:,.0f} GB are free, the full run needs about {needed:,.0f} GB"
  return [checks.Finding("disk", free > needed, line)]


def _show_findings(findings: Sequence[checks.Finding]) -> None:
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  for title in ("check", "", "found"):
    table.add_column(title)
  for one in findings:
    table.add_row(one.part, "ok" if one.ok else "FAILED", rich.text.Text(one.line))
  console.console.print(table)


def _show_rows(rows: Sequence[Row], forecasts: Mapping[str, forecast.Forecast]) -> None:
  table = rich.table.Table(
    box=rich.box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
    caption=(
      "s, GB, GPU GB: seconds and peak memory of this preflight; the other columns are"
      " the forecast of the full run"
    ),
  )
  table.add_column("stage", no_wrap=True)
  table.add_column("result", no_wrap=True)
  titles = ("s", "GB", "GPU GB", "hours", "GPU h", "$", "disk GB")
  for title in titles:
    table.add_column(title, justify="right", no_wrap=True)
  by_stage = {row.stage: row for row in rows}
  for name in [*by_stage, *(k for k in forecasts if k not in by_stage)]:
    row = by_stage.get(name, Row(name, "", ""))
    numbers = (row.seconds, row.host_gb, row.device_gb)
    table.add_row(
      name,
      row.kind,
      *(_number(value) for value in numbers),
      *_cells(forecasts.get(name)),
    )
  if forecasts:
    table.add_section()
    table.add_row("all", "", "", "", "", *_cells(forecast.total(forecasts)))
  console.console.print(table)


def _cells(one: forecast.Forecast | None) -> list[str]:
  if one is None:
    return [""] * 4
  dollars = "?" if one.dollars is None else f"{one.dollars:,.2f}"
  return [
    f"{one.hours:,.2f}",
    f"{one.gpu_hours:,.1f}" if one.gpu_hours else "",
    dollars if one.dollars != 0 else "",
    f"{one.disk_gb:,.1f}" if one.disk_gb else "",
  ]


def _number(value: Any) -> str:
  return "" if value is None else f"{value:,.1f}"
