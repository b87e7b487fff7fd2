"""Stage diffusion_pairs: pairs of videos of one prompt, for Diffusion DPO (figure 5).

Renders and scores several videos of each prompt, with different noise; the store gives
what `score_videos` has made of the same prompts. Of two videos of a prompt, the one
with the higher reward is preferred, by the rules of `pairing`.
"""

import collections
import dataclasses
import statistics
from collections.abc import Sequence

import ml_collections

from torch_bridge import contract
from vpo_jax import errors, records, stages
from vpo_jax.data import heldout as heldout_lib
from vpo_jax.feedback import bridge, identity, pairing, score_videos, video_pairs


def run(work: stages.Work) -> stages.Counts:
  """Writes train.jsonl and heldout.jsonl (`contract.VideoPair`), and all scores.

  Raises:
    UserError: the config or an input is wrong, the bridge cannot work, or too few
      prompts have a pair.
  """
  config = work.config
  video_pairs.check(config.rules)
  if config.videos_per_prompt < 2:
    raise errors.UserError(
      f"config.videos_per_prompt={config.videos_per_prompt}: a pair needs two videos of"
      " a prompt"
    )
  if not 0 < config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in (0, 1)")
  entries = score_videos.entries(work)
  if config.prompts_per_query:
    entries = _first_of_each_query(entries, config.prompts_per_query)
  counts = score_videos.score(work, entries)
  scored = list(records.read(work.folder / "scores.jsonl", records.Scored))
  pairs = select(scored, config.rules)
  train, heldout = heldout_lib.split(
    pairs, config.heldout, config.seed, lambda pair: pair[0].query
  )
  if not train or not heldout:
    raise errors.UserError(
      f"diffusion_pairs: {len(pairs)} prompts have a pair, of {len(entries)}; two are"
      " the least: give more prompts, more config.videos_per_prompt, or a smaller"
      " config.rules.margin"
    )
  settings, _ = identity.settings(config.renderer)
  store = bridge.Bridge(config, work.folder, work.store).store
  for name, part in (("train", train), ("heldout", heldout)):
    rows = [_row(winner, loser, settings, store) for winner, loser in part]
    records.write(work.folder / f"{name}.jsonl", rows)
  margins = [pairing.margin(*pair) for pair in pairs]
  return counts | {
    "train": len(train),
    "heldout": len(heldout),
    "margin_mean": round(statistics.fmean(margins), 4),
  }


def _first_of_each_query(
  entries: Sequence[score_videos.Entry], count: int
) -> list[score_videos.Entry]:
  seen: collections.Counter[str] = collections.Counter()
  kept = []
  for row, candidate in entries:
    if seen[row.query_id] < count:
      kept.append((row, candidate))
    seen[row.query_id] += 1
  return kept


def select(
  scored: Sequence[records.Scored], rules: ml_collections.ConfigDict
) -> list[pairing.Two]:
  """The pairs of videos of each prompt, the preferred one first."""
  by_prompt: dict[tuple[str, int], list[records.Scored]] = collections.defaultdict(list)
  for row in scored:
    by_prompt[row.query_id, row.index].append(row)
  return [two for rows in by_prompt.values() for two in pairing.choose(rows, rules)]


def _row(
  winner: records.Scored,
  loser: records.Scored,
  settings: dict,
  store: contract.Store,
) -> contract.VideoPair:
  """The pair with the prompt as the video model receives it."""
  chosen, rejected = (
    str(store.video(one.video_id).relative_to(store.root)) for one in (winner, loser)
  )
  return contract.VideoPair(
    id=records.row_id(winner.video_id, loser.video_id),
    prompt=winner.prompt + settings.get("prompt_suffix", ""),
    query=winner.query,
    chosen=chosen,
    rejected=rejected,
    margin=pairing.margin(winner, loser),
  )


STAGE = dataclasses.replace(score_videos.STAGE, name="diffusion_pairs", run=run)
