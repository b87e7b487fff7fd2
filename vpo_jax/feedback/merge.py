"""Stage merge_pairs: D_dpo = D_text ∪ D_video (paper, section 3.3), as training JSON.

The rows are those of TRL and LLaMA-Factory; the user's turn is the instruction template
filled with the query.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, files, records, stage, templates
from vpo_jax.data import examples


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Writes pairs.jsonl, train.json and heldout.json.

  Raises:
    UserError: the config or an input is wrong, or there is no pair at all.
  """
  if config.rule not in ("union", "one_per_query"):
    raise errors.UserError(
      f"config.rule={config.rule!r}: must be 'union' or 'one_per_query'"
    )
  if not 0 <= config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in [0, 1)")
  folder = epath.Path(workdir)
  text_path = config.text or folder / "text_pairs" / "pairs.jsonl"
  video_path = config.video or folder / "video_pairs" / "pairs.jsonl"
  instruction = templates.load("instruction", config.instruction)
  inputs = {"text": text_path, "video": video_path}
  work = stage.begin("merge_pairs", config, workdir, inputs)
  if work.counts is not None:
    return work.counts
  text = list(records.read(text_path, records.Pair))
  video = list(records.read(video_path, records.Pair))
  pairs = union(text, video)
  if config.rule == "one_per_query":
    pairs = one_per_query(pairs)
  if not pairs:
    raise errors.UserError(f"merge_pairs: no pair in {text_path} and {video_path}")
  train, heldout = split(pairs, config.heldout, config.seed)
  records.write(work.folder / "pairs.jsonl", pairs)
  for name, part in (("train", train), ("heldout", heldout)):
    rows = [row(pair, instruction) for pair in part]
    files.write_json(work.folder / f"{name}.json", rows)
  return work.finish(
    {
      "text_pairs": len(text),
      "video_pairs": len(video),
      "dropped": len(text) + len(video) - len(pairs),
      "train": len(train),
      "heldout": len(heldout),
    }
  )


def union(
  text: Iterable[records.Pair], video: Iterable[records.Pair]
) -> list[records.Pair]:
  """D_text ∪ D_video without duplicates, text first."""
  found: dict[str, records.Pair] = {}
  for pair in [*text, *video]:
    found.setdefault(pair_id(pair), pair)
  return list(found.values())


def one_per_query(pairs: Iterable[records.Pair]) -> list[records.Pair]:
  """A query seen twice keeps its first pair, which is its text pair (release)."""
  found: dict[str, records.Pair] = {}
  for pair in pairs:
    found.setdefault(pair.query, pair)
  return list(found.values())


def split(
  pairs: Sequence[records.Pair], heldout: float, seed: int
) -> tuple[list[records.Pair], list[records.Pair]]:
  """Training pairs and held-out ones; no query is in both.

  Args:
    heldout: share of the queries; at least one query each way when there are two.
  """
  queries = sorted(
    {pair.query for pair in pairs}, key=lambda query: records.row_id(seed, query)
  )
  count = round(heldout * len(queries))
  if heldout and len(queries) > 1:
    count = min(max(count, 1), len(queries) - 1)
  kept_out = set(queries[:count])
  train = [pair for pair in pairs if pair.query not in kept_out]
  return train, [pair for pair in pairs if pair.query in kept_out]


def row(pair: records.Pair, instruction: str) -> dict[str, Any]:
  """A pair as the trainers of the ecosystem read it."""
  content = templates.fill(instruction, query=pair.query)
  return examples.preference_row(content, pair.chosen, pair.rejected)


def pair_id(pair: records.Pair) -> str:
  return records.row_id(pair.query, pair.chosen, pair.rejected)
