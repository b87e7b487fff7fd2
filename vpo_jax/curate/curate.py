"""Stage curate: users' queries in, SFT, DPO and test queries out.

    read ─ repair ─ rules ─ held out ─ duplicates ─ near-duplicates ─ self-BLEU ─ safety
    ─ split

Rows are measured in batches. Each batch is published before the next, so a killed run
continues with the batch that it was measuring. The steps that compare rows with each
other keep only keys and row numbers in memory.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import polars as pl
from etils import epath

from vpo_jax import buckets, errors, files, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.curate import card, compare, rules, safety, spans, split, table
from vpo_jax.runtime import console
from vpo_jax.teacher import queue
from vpo_jax.teacher import safety as judge

ENGINES = ("local", "ray")
_BATCH = 50_000


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Curates a file of queries (paper, section 3.2).

  Writes `sft.jsonl`, `dpo.jsonl` and `test.jsonl` (`records.Query`), `set_aside.jsonl`
  (`records.SetAside`), `safety.jsonl` (`records.SafetyLabel`, if an LLM is asked),
  `rows.parquet` (every row, and why it was dropped) and the data card `README.md`.

  Returns:
    How many rows were read, set aside, dropped for each reason, kept, and taken for
    each split; self-BLEU before and after the diversity filter. With the teacher's
    `dry_run`: what the judge would cost; nothing is sent.

  Raises:
    UserError: a config value is invalid, the file cannot be read, the LLM cannot be
      used, or a split would be empty.
  """
  config, folder, path = work.config, work.folder, work.inputs["queries"]
  _check(config)
  is_dry_run = config.safety.judge and config.teacher.dry_run
  if config.safety.judge and not is_dry_run:
    judge.check(config.teacher, config.safety.template)
  held_out = _held_out(work)
  rows = _measured(path, config, folder / "parts")
  kept = compare.drop_similar(rows, held_out, config)
  if is_dry_run:
    return stages.Unfinished(_planned(kept, rows, config, folder))
  if config.safety.judge:
    kept = _judged(kept, rows, config, folder)
  splits = split.assign(kept.live, config.sizes)
  rows = _publish(rows, kept, folder)
  for name, part in splits.items():
    share = 0.0 if name == "test" else config.spans
    queries = table.queries(_with(rows, part).sort("place"))
    queries = (spans.insert(query, share, config.seed) for query in queries)
    records.write(folder / f"{name}.jsonl", queries)
    _report_shortfall(name, part, config.sizes)
  aside = rows.filter("aside").collect(engine="streaming")
  records.write(folder / "set_aside.jsonl", table.set_aside(aside))
  counts = _counts(rows, kept, splits)
  if config.card:
    card.write(folder, path.name, counts, rows, kept)
  (folder / "parts").rmtree()
  buckets.forget(folder / "parts")
  return counts


def _held_out(work: stages.Work) -> pl.Series:
  """The keys of the texts that no split may contain.

  Raises:
    UserError: a file cannot be read, or holds no text.
  """
  measure, keys = table.Measure(work.config), []
  for path in _held_out_files(work.config):
    raws = list(queries_lib.read(path))
    if not raws:
      raise errors.UserError(f"{path}: holds no text; see config.held_out")
    keys.append(measure(raws)["key"])
  found = pl.concat(keys) if keys else pl.Series("key", [], pl.String)
  return found.filter(found != "").unique(maintain_order=True)


def _held_out_files(config: stages.Config) -> list[epath.Path]:
  """The files of patterns such as "T2VSafetyBench/*.txt"."""
  files_found = []
  for pattern in config.held_out:
    path = epath.Path(pattern)
    found = sorted(path.parent.glob(path.name))
    if not found:
      raise errors.UserError(f"config.held_out: {pattern}: no such file")
    files_found += found
  return files_found


def _inputs(config: stages.Config) -> stages.Inputs:
  held_out = {os.path.abspath(path) for path in _held_out_files(config)}
  return (
    stages.Input("queries", str(queries_lib.SHIPPED)),
    *(stages.Input(f"held out: {path}", path) for path in sorted(held_out)),
  )


def _execution_keys(config: stages.Config) -> stages.Keys:
  # All engines give the same rows. Without a judge, no teacher is asked.
  return ("engine", *(queue.EXECUTION_KEYS if config.safety.judge else ("teacher.*",)))


def _measured(
  path: epath.Path, config: ml_collections.ConfigDict, folder: epath.Path
) -> pl.LazyFrame:
  """Rows in measured batches; batches that an earlier run published are reused."""
  files.remove_leftovers(folder)
  batches = _batches(path, folder)
  if config.engine == "ray":
    from vpo_jax.curate import ray_engine  # Ray is an extra.

    parts = ray_engine.measure(batches, config)
  else:
    measure = table.Measure(config)
    parts = []
    for part, batch in batches:
      if not part.exists():
        with files.publish(part, "wb") as file:
          measure(batch).write_parquet(file)
      parts.append(str(part))
  if not parts:
    raise errors.UserError(f"{path}: holds no query")
  buckets.fetch_all(folder, [epath.Path(part).name for part in parts])
  local = [str(buckets.scratch(part)) for part in parts]
  return pl.scan_parquet(local).with_row_index("row")


def _batches(
  path: epath.Path, folder: epath.Path
) -> Iterator[tuple[epath.Path, list[queries_lib.Raw]]]:
  """Batches of rows as read, and the path where each is published once measured."""
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
  """Has the teacher's model judge the queries that the source labels as unsafe."""
  texts = _candidates(kept, rows, config)
  labels = judge.judge(
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
  """Estimates the cost of `_judged`."""
  return judge.plan(
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


def _with(rows: pl.LazyFrame, chosen: pl.DataFrame) -> pl.DataFrame:
  """The complete rows with the row numbers of `chosen`."""
  return rows.join(chosen.lazy().select("row"), on="row", how="semi").collect(
    engine="streaming"
  )


def _publish(
  rows: pl.LazyFrame, kept: compare.Kept, folder: epath.Path
) -> pl.LazyFrame:
  """Writes every row with its outcome to `rows.parquet`; returns a scan of it."""
  category = kept.live.lazy().select("row", judged="category")
  done = (
    rows.join(kept.dropped.lazy(), on="row", how="left", maintain_order="left")
    .join(category, on="row", how="left", maintain_order="left")
    .with_columns(
      reason=pl.coalesce("reason", "drop_reason"),
      category=pl.coalesce("judged", "category"),
    )
    .drop("drop_reason", "judged")
  )
  path = folder / "rows.parquet"
  local = buckets.scratch(path)
  with files.publish(local, "wb") as file:
    done.sink_parquet(file)
  buckets.store(path)
  return pl.scan_parquet(str(local))


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


def _report_shortfall(
  name: str, part: pl.DataFrame, sizes: ml_collections.ConfigDict
) -> None:
  for category in split.CATEGORIES:
    wanted = sizes[f"{name}_{category}"]
    there = part.filter(category=category).height
    if there < wanted:
      console.say(
        f"curate: {name} has {there} {category} queries; the config asks for {wanted}"
      )


def _check(config: ml_collections.ConfigDict) -> None:
  for key, value, choices in (
    ("flags", config.flags, table.FLAGS),
    ("engine", config.engine, ENGINES),
  ):
    if value not in choices:
      raise errors.UserError(
        f"config.{key}={value!r}: must be one of {', '.join(choices)}"
      )
  for key, value in {
    "spans": config.spans,
    "rules.max_special": config.rules.max_special,
    "rules.min_distinct": config.rules.min_distinct,
    "near.threshold": config.near.threshold,
    "diversity.max_bleu": config.diversity.max_bleu,
    **{f"safety.min_score.{k}": v for k, v in config.safety.min_score.items()},
  }.items():
    if not 0 <= value <= 1:
      raise errors.UserError(f"config.{key}={value}: must be from 0 to 1")
  for key, value in config.sizes.items():
    if value < 0:
      raise errors.UserError(f"config.sizes.{key}={value}: must not be negative")
  if not any(config.sizes.values()):
    raise errors.UserError("config.sizes: all are 0, so there is nothing to curate")
  for key, value in {
    "rules.max_run": config.rules.max_run,
    "near.permutations": config.near.permutations,
    "diversity.references": config.diversity.references,
    "safety.margin": config.safety.margin,
  }.items():
    if value < 1:
      raise errors.UserError(f"config.{key}={value}: must be at least 1")


STAGE = stages.Stage(
  name="curate",
  run=run,
  inputs=_inputs,
  execution_keys=_execution_keys,
)
