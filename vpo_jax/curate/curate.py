"""The stage `curate`: users' queries in, two clean halves and a test set out.

    read ─ repair ─ rules ─ duplicates ─ near-duplicates ─ self-BLEU ─ split

Rows are measured in batches, each published before the next, so that a killed run goes
on with the batch it was at; then rows are compared with each other, in the order of
their places.
"""

import itertools
from collections.abc import Iterator

import ml_collections
import numpy as np
import polars as pl
from etils import epath

from vpo_jax import console, errors, files, records, stage
from vpo_jax.curate import bleu, halves, near, rules, sources, table

_BATCH = 50_000


def run(
  config: ml_collections.ConfigDict, workdir: epath.PathLike
) -> dict[str, int | float]:
  """Curates a file of queries (paper, section 3.2).

  Writes `sft.jsonl`, `dpo.jsonl` and `test.jsonl` (`records.Query`), `set_aside.jsonl`
  (`records.SetAside`) and `rows.parquet` (every row with what became of it).

  Args:
    config: see `configs/curate.py`.
    workdir: the stage writes to its folder `curate`.

  Returns:
    How many rows were read, set aside, dropped by each rule, kept, and taken for each
    split; self-BLEU before and after the diversity filter.

  Raises:
    UserError: a config value makes no sense, the file cannot be read, or a split would
      be empty.
  """
  _check(config)
  path = epath.Path(config.input or sources.SHIPPED)
  opened = stage.begin("curate", config, workdir, {"input": path})
  if opened.counts is not None:
    return opened.counts
  frame = pl.concat(_measured(path, config, opened.folder / "parts"))
  if frame.is_empty():
    raise errors.UserError(f"{path}: there is no query in it")
  frame, counts = _compare(frame, config)
  splits = halves.split(frame.filter(pl.col("reason").is_null()), config.sizes)
  for name, part in splits.items():
    records.write(opened.folder / f"{name}.jsonl", table.queries(part))
    counts[name] = len(part)
    counts[f"{name}_safety"] = part.filter(category="safety").height
    _tell_shortfall(name, part, config.sizes)
  records.write(opened.folder / "set_aside.jsonl", table.set_aside(frame))
  with files.publish(opened.folder / "rows.parquet", "wb") as file:
    frame.write_parquet(file)
  (opened.folder / "parts").rmtree()
  return opened.finish(counts)


def _measured(
  path: epath.Path, config: ml_collections.ConfigDict, folder: epath.Path
) -> Iterator[pl.DataFrame]:
  """Batches of measured rows; those that an earlier run published are read back."""
  files.sweep(folder)
  raws = sources.read(path)
  for number in itertools.count():
    batch = list(itertools.islice(raws, _BATCH))
    if not batch and number:
      return
    part = folder / f"{number:05d}.parquet"
    if not part.exists():
      with files.publish(part, "wb") as file:
        table.measure(batch, config).write_parquet(file)
    yield pl.read_parquet(part.read_bytes())


def _compare(
  frame: pl.DataFrame, config: ml_collections.ConfigDict
) -> tuple[pl.DataFrame, dict[str, int | float]]:
  """Drops rows that are too like others; returns all rows, and the counts."""
  frame = frame.with_row_index("row")
  live = frame.filter(pl.col("reason").is_null()).sort("place", "row")
  gone = {}

  def drop(mask: np.ndarray, reason: str) -> None:
    nonlocal live
    gone[reason] = live["row"].filter(pl.Series(mask))
    live = live.filter(pl.Series(~mask))

  drop((~live["key"].is_first_distinct()).to_numpy(), "duplicate")
  drop(near.duplicates(live["key"], config.near), "near_duplicate")
  words = live.select(table.words(pl.col("key"))).to_series()
  before = bleu.self_bleu(words, config.diversity.references)
  drop(
    bleu.similar(words, config.diversity.references, config.diversity.max_bleu),
    "similar",
  )
  words = live.select(table.words(pl.col("key"))).to_series()
  after = bleu.self_bleu(words, config.diversity.references)
  reasons = pl.DataFrame(
    {"row": pl.concat(gone.values()), "late": _named(gone)},
    schema={"row": pl.UInt32, "late": pl.String},
  )
  frame = (
    frame.join(reasons, on="row", how="left", maintain_order="left")
    .with_columns(reason=pl.coalesce("reason", "late"))
    .drop("row", "late")
  )
  dropped = frame.filter(~pl.col("aside"))["reason"].value_counts()
  by_rule = dict(dropped.drop_nulls().iter_rows())
  names = [rule.__name__ for rule in rules.RULES] + list(gone)
  counts: dict[str, int | float] = {
    "read": len(frame),
    "set_aside": int(frame["aside"].sum()),
    **{f"dropped_{name}": by_rule.get(name, 0) for name in names},
    "kept": len(live),
    "kept_safety": live.filter(category="safety").height,
    "self_bleu_before": round(float(before.mean()), 4) if before.size else 0.0,
    "self_bleu_after": round(float(after.mean()), 4) if after.size else 0.0,
  }
  return frame, counts


def _named(gone: dict[str, pl.Series]) -> pl.Series:
  return pl.concat(
    pl.repeat(name, len(rows), eager=True) for name, rows in gone.items()
  )


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
  if config.flags not in table.FLAGS:
    raise errors.UserError(
      f"flags={config.flags!r}: choose one of {', '.join(table.FLAGS)}"
    )
  for key, value in {
    "rules.max_special": config.rules.max_special,
    "rules.min_distinct": config.rules.min_distinct,
    "near.threshold": config.near.threshold,
    "diversity.max_bleu": config.diversity.max_bleu,
    "safety.min_score": config.safety.min_score,
  }.items():
    if not 0 <= value <= 1:
      raise errors.UserError(f"{key}={value}: it is a share, from 0 to 1")
  for key, value in config.sizes.items():
    if value < 0:
      raise errors.UserError(f"sizes.{key}={value}: it is a number of queries")
