"""The stage `curate`: users' queries in, two clean halves and a test set out.

    read ─ repair ─ rules ─ duplicates ─ near-duplicates ─ self-BLEU ─ safety ─ split

Rows are measured in batches, each published before the next, so that a killed run goes
on with the batch it was at; what compares rows with each other then needs only their
keys and places in memory.
"""

import itertools
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import ml_collections
import polars as pl
from etils import epath

from vpo_jax import errors, files, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.curate import card, compare, halves, rules, safety, table
from vpo_jax.runtime import console

ENGINES = ("local", "ray")
_BATCH = 50_000


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Curates a file of queries (paper, section 3.2).

  Writes `sft.jsonl`, `dpo.jsonl` and `test.jsonl` (`records.Query`), `set_aside.jsonl`
  (`records.SetAside`), `safety.jsonl` (`records.SafetyLabel`, where an LLM
  is asked), `rows.parquet` (every row, and what became of it) and the data card
  `README.md`.

  Args:
    config: see `configs/curate.py`.
    workdir: the stage writes to its folder `curate`.

  Returns:
    How many rows were read, set aside, dropped for each reason, kept, and taken for
    each split; self-BLEU before and after the diversity filter. With the teacher's
    `dry_run`: what the judge would cost; nothing is sent, the stage is not finished.

  Raises:
    UserError: a config value makes no sense, the file cannot be read, the LLM cannot be
      used, or a split would be empty.
  """
  _check(config)
  path = epath.Path(config.input or queries_lib.SHIPPED)
  planning = config.safety.judge and config.teacher.dry_run
  if config.safety.judge and not planning:
    folder = epath.Path(workdir) / "curate"
    _judge().check(config.teacher, config.safety.template, folder)
  opened = stages.begin("curate", _lasting(config), workdir, {"input": path})
  if opened.counts is not None:
    return opened.counts
  rows = _measured(path, config, opened.folder / "parts")
  kept = compare.thin(rows, config)
  if planning:
    return _planned(kept, rows, config, opened.folder)
  if config.safety.judge:
    kept = _judged(kept, rows, config, opened.folder)
  splits = halves.split(kept.live, config.sizes)
  rows = _publish(rows, kept, opened.folder)
  for name, part in splits.items():
    queries = table.queries(_with(rows, part).sort("place"))
    records.write(opened.folder / f"{name}.jsonl", queries)
    _tell_shortfall(name, part, config.sizes)
  aside = rows.filter("aside").collect(engine="streaming")
  records.write(opened.folder / "set_aside.jsonl", table.set_aside(aside))
  counts = _counts(rows, kept, splits)
  if config.card:
    card.write(opened.folder, path.name, counts, rows, kept)
  opened.finish(counts)
  (opened.folder / "parts").rmtree()
  return counts


def _lasting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config without what may change between runs that go on with each other."""
  if config.safety.judge:
    from vpo_jax.teacher import queue

    kept = queue.lasting(config)
  else:
    kept = config.copy_and_resolve_references()
    with kept.unlocked():
      del kept.teacher
  with kept.unlocked():
    del kept.engine  # all give the same rows
  return kept


def _measured(
  path: epath.Path, config: ml_collections.ConfigDict, folder: epath.Path
) -> pl.LazyFrame:
  """Rows in measured batches; those that an earlier run published stay as they are."""
  files.sweep(folder)
  batches = _batches(path, folder)
  if config.engine == "ray":
    from vpo_jax.curate import spread  # Ray is an extra.

    parts = spread.measure(batches, config)
  else:
    measure = table.Measure(config)
    parts = []
    for part, batch in batches:
      if not part.exists():
        with files.publish(part, "wb") as file:
          measure(batch).write_parquet(file)
      parts.append(str(part))
  if not parts:
    raise errors.UserError(f"{path}: there is no query in it")
  return pl.scan_parquet(parts).with_row_index("row")


def _batches(
  path: epath.Path, folder: epath.Path
) -> Iterator[tuple[epath.Path, list[queries_lib.Raw]]]:
  """Batches of rows as they are read, and where each is published when measured."""
  raws = queries_lib.read(path)
  for number in itertools.count():
    batch = list(itertools.islice(raws, _BATCH))
    if not batch:
      return
    yield folder / f"{number:05d}.parquet", batch


def _judged(
  kept: compare.Kept,
  rows: pl.LazyFrame,
  config: ml_collections.ConfigDict,
  folder: epath.Path,
) -> compare.Kept:
  """Lets the teacher's model look at the safety-related candidates."""
  texts = _candidates(kept, rows, config)
  labels = _judge().judge(
    list(table.queries(texts)),
    config=config.teacher,
    template=config.safety.template,
    folder=folder,
  )
  records.write(folder / "safety.jsonl", labels)
  return safety.decide(kept, texts.select("row", "id"), labels)


def _planned(
  kept: compare.Kept,
  rows: pl.LazyFrame,
  config: ml_collections.ConfigDict,
  folder: epath.Path,
) -> dict[str, Any]:
  """What `_judged` would cost."""
  return _judge().plan(
    list(table.queries(_candidates(kept, rows, config))),
    config=config.teacher,
    template=config.safety.template,
    folder=folder,
  )


def _candidates(
  kept: compare.Kept, rows: pl.LazyFrame, config: ml_collections.ConfigDict
) -> pl.DataFrame:
  asked = safety.candidates(kept.live, config.sizes, config.safety.margin)
  return _with(rows, asked).sort("place")


def _judge() -> ModuleType:
  from vpo_jax.teacher import safety as judge  # Its client takes a second to import.

  return judge


def _with(rows: pl.LazyFrame, chosen: pl.DataFrame) -> pl.DataFrame:
  """The whole rows of some row numbers."""
  return rows.join(chosen.lazy().select("row"), on="row", how="semi").collect(
    engine="streaming"
  )


def _publish(
  rows: pl.LazyFrame, kept: compare.Kept, folder: epath.Path
) -> pl.LazyFrame:
  """Writes what became of every row to `rows.parquet`, and reads it from there."""
  category = kept.live.lazy().select("row", judged="category")
  done = (
    rows.join(kept.gone.lazy(), on="row", how="left", maintain_order="left")
    .join(category, on="row", how="left", maintain_order="left")
    .with_columns(
      reason=pl.coalesce("reason", "late"), category=pl.coalesce("judged", "category")
    )
    .drop("late", "judged")
  )
  path = folder / "rows.parquet"
  with files.publish(path, "wb") as file:
    done.sink_parquet(file)
  return pl.scan_parquet(str(path))


def _counts(
  rows: pl.LazyFrame, kept: compare.Kept, splits: Mapping[str, pl.DataFrame]
) -> dict[str, int | float]:
  reasons = (
    rows.group_by("reason", "aside")
    .agg(pl.len(), pl.col("repaired").sum())
    .collect(engine="streaming")
  )
  dropped = dict(reasons.filter(~pl.col("aside")).select("reason", "len").iter_rows())
  names = (*(rule.__name__ for rule in rules.RULES), *compare.REASONS)
  counts: dict[str, int | float] = {
    "read": int(reasons["len"].sum()),
    "set_aside": int(reasons.filter("aside")["len"].sum()),
    "repaired": int(reasons["repaired"].sum()),
    **{f"dropped_{name}": dropped.get(name, 0) for name in names},
    f"dropped_{safety.NOT_JUDGED}": dropped.get(safety.NOT_JUDGED, 0),
    "kept": len(kept.live),
    "kept_safety": kept.live.filter(category="safety").height,
  }
  for name, diversity in (("before", kept.before), ("after", kept.after)):
    counts[f"self_bleu_{name}"] = round(diversity.mean, 4)
    counts[f"self_bleu_{name}_error"] = round(diversity.error, 4)
  for name, part in splits.items():
    counts[name] = len(part)
    counts[f"{name}_safety"] = part.filter(category="safety").height
  return counts


def _tell_shortfall(
  name: str, part: pl.DataFrame, sizes: ml_collections.ConfigDict
) -> None:
  for category in halves.CATEGORIES:
    wanted = sizes[f"{name}_{category}"]
    there = part.filter(category=category).height
    if there < wanted:
      console.say(
        f"curate: {name} has {there} of the {wanted} {category} queries wanted"
      )


def _check(config: ml_collections.ConfigDict) -> None:
  for key, value, choices in (
    ("flags", config.flags, table.FLAGS),
    ("engine", config.engine, ENGINES),
  ):
    if value not in choices:
      raise errors.UserError(f"{key}={value!r}: choose one of {', '.join(choices)}")
  for key, value in {
    "rules.max_special": config.rules.max_special,
    "rules.min_distinct": config.rules.min_distinct,
    "near.threshold": config.near.threshold,
    "diversity.max_bleu": config.diversity.max_bleu,
    **{f"safety.min_score.{k}": v for k, v in config.safety.min_score.items()},
  }.items():
    if not 0 <= value <= 1:
      raise errors.UserError(f"{key}={value}: it is a share, from 0 to 1")
  for key, value in config.sizes.items():
    if value < 0:
      raise errors.UserError(f"sizes.{key}={value}: it is a number of queries")
  if not any(config.sizes.values()):
    raise errors.UserError("sizes: all are 0, so that there is nothing to curate")
  for key, value in {
    "rules.max_run": config.rules.max_run,
    "near.permutations": config.near.permutations,
    "diversity.references": config.diversity.references,
    "safety.margin": config.safety.margin,
  }.items():
    if value < 1:
      raise errors.UserError(f"{key}={value}: it is at least 1")
