"""Stage merge_pairs: D_dpo = D_text ∪ D_video (paper, section 3.3), as training rows.

The rows have the form that TRL and LLaMA-Factory read. The user's turn is the
instruction template filled with the query. The template is the one that the candidates
were sampled with, so that the policy trains on the prompts that it was given.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pydantic
from etils import epath

from vpo_jax import errors, files, json_input, records, stages, templates
from vpo_jax import queries as queries_lib
from vpo_jax.data import examples, forms
from vpo_jax.data import heldout as heldout_lib


def run(work: stages.Work) -> stages.Counts:
  """Writes pairs.jsonl, train.json, heldout.json, instruction.txt, set_aside.jsonl.

  Raises:
    UserError: the config or an input is wrong, or there is no pair at all.
  """
  config = work.config
  if config.rule not in ("union", "one_per_query"):
    raise errors.UserError(
      f"config.rule={config.rule!r}: must be 'union' or 'one_per_query'"
    )
  if config.text_share is not None and not 0 <= config.text_share <= 1:
    raise errors.UserError(f"config.text_share={config.text_share}: must be in [0, 1]")
  if not 0 <= config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in [0, 1)")
  path = config.instruction or work.inputs.get("instruction", "")
  instruction = templates.load("instruction", path)
  text, text_aside = read(work.inputs["text"], "text")
  video, video_aside = read(work.inputs["video"], "video")
  pairs = union(*mix(text, video, config.text_share, config.seed))
  if config.rule == "one_per_query":
    pairs = one_per_query(pairs)
  aside = text_aside + video_aside
  if not pairs:
    why = f"; the first row set aside: {aside[0].reason}" if aside else ""
    raise errors.UserError(
      f"merge_pairs: no pair in {work.inputs['text']} and {work.inputs['video']}{why}"
    )
  train, heldout = heldout_lib.split(
    pairs, config.heldout, config.seed, lambda pair: pair.query
  )
  records.write(work.folder / "pairs.jsonl", pairs)
  records.write(work.folder / "set_aside.jsonl", aside)
  files.write_text(work.folder / templates.INSTRUCTION, instruction)
  for name, part in (("train", train), ("heldout", heldout)):
    rows = [row(pair, instruction) for pair in part]
    files.write_json(work.folder / f"{name}.json", rows)
  return {
    "text_pairs": len(text),
    "video_pairs": len(video),
    "dropped": len(text) + len(video) - len(pairs),
    "train": len(train),
    "heldout": len(heldout),
    "set_aside": len(aside),
  }


def read(
  path: epath.PathLike, source: Literal["text", "video"]
) -> tuple[list[records.Pair], list[records.SetAside]]:
  """Reads the pairs that a stage wrote, or preference rows of any form of `data.forms`.

  `CCCCCC/VPO` and this stage's own train.json have such rows. They do not say which
  kind of feedback a pair came from, so the caller says it with `source`.

  Returns: the pairs, and the rows that are not preference rows with the reason.

  Raises:
    UserError: the file is missing, or is not JSON in UTF-8.
  """
  path = epath.Path(path)
  pairs, aside = [], []
  own = pydantic.TypeAdapter(records.Pair)
  for row in json_input.rows(path):
    try:
      if row.problem:
        raise ValueError(row.problem)
      if isinstance(row.value, dict) and "query_id" in row.value:
        pairs.append(own.validate_python(row.value))
      else:
        pairs.append(_preference(forms.parse(row.value, "dpo"), source))
    except ValueError as error:  # includes pydantic's ValidationError
      text = json.dumps(row.value, ensure_ascii=False)
      reason = f"{row.place}: {' '.join(str(error).split())[:200]}"
      aside.append(records.SetAside(records.row_id(text), text[:200], reason))
  return pairs, aside


def _preference(row: forms.Row, source: Literal["text", "video"]) -> records.Pair:
  query = queries_lib.of_instruction(row.query)
  if not query:
    raise ValueError("the user's message has no query")
  chosen, rejected = row.responses
  return records.Pair(records.row_id(query), query, chosen, rejected, source=source)


def mix(
  text: Sequence[records.Pair],
  video: Sequence[records.Pair],
  share: float | None,
  seed: int,
) -> tuple[list[records.Pair], list[records.Pair]]:
  """The largest selection of pairs in which text pairs have the given share.

  Args:
    share: None keeps all pairs.
    seed: with a pair's content, decides whether the pair is kept.

  Returns: text pairs and video pairs.
  """
  if share is None:
    return list(text), list(video)
  total = min(
    len(part) / wanted for part, wanted in ((text, share), (video, 1 - share)) if wanted
  )
  return _drawn(text, round(total * share), seed), _drawn(
    video, round(total * (1 - share)), seed
  )


def _drawn(pairs: Sequence[records.Pair], count: int, seed: int) -> list[records.Pair]:
  """A random selection of `count` pairs, in their original order."""
  drawn = sorted(pairs, key=lambda pair: records.row_id(seed, pair_id(pair)))[:count]
  kept = {pair_id(pair) for pair in drawn}
  return [pair for pair in pairs if pair_id(pair) in kept]


def union(
  text: Iterable[records.Pair], video: Iterable[records.Pair]
) -> list[records.Pair]:
  """D_text ∪ D_video without duplicates, text first."""
  found: dict[str, records.Pair] = {}
  for pair in [*text, *video]:
    found.setdefault(pair_id(pair), pair)
  return list(found.values())


def one_per_query(pairs: Iterable[records.Pair]) -> list[records.Pair]:
  """Keeps each query's first pair, which is its text pair if it has one (release)."""
  found: dict[str, records.Pair] = {}
  for pair in pairs:
    found.setdefault(pair.query, pair)
  return list(found.values())


def row(pair: records.Pair, instruction: str) -> dict[str, Any]:
  """A pair as TRL and LLaMA-Factory read it."""
  content = templates.fill(instruction, query=pair.query)
  return examples.preference_row(content, pair.chosen, pair.rejected)


def pair_id(pair: records.Pair) -> str:
  return records.row_id(pair.query, pair.chosen, pair.rejected)


STAGE = stages.Stage(
  name="merge_pairs",
  run=run,
  inputs=(
    stages.Input("text", "text_pairs/pairs.jsonl"),
    stages.Input("video", "video_pairs/pairs.jsonl"),
    stages.Input("instruction", "sample/instruction.txt", optional=True),
  ),
  cheap=True,
)
