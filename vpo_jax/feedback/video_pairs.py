"""Stage video_pairs: videos of the candidates, rewards, and D_video (section 3.3).

Prompts that passed the text-level check are rendered and scored; of two prompts of a
query, the one whose video has the higher reward is preferred, if by enough.
"""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, records, stages
from vpo_jax.feedback import bridge, pairing, rewards

# How workers run; another run may change it.
_PASSING = ("bridge",)
_PASSING_RENDERER = ("python", "batch", "options")
_PASSING_SCORER = ("python", "options")


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Writes scores.jsonl (every scored video), pairs.jsonl and set_aside.jsonl.

  Raises:
    UserError: the config or an input is wrong, the bridge cannot work, or the scorer
      answers as one that is broken.
  """
  _check(config.rules)
  rewards.dimensions(config.scorer.dimensions)
  role = config.scorer.text_role
  if role not in ("query", "prompt"):
    raise errors.UserError(
      f"config.scorer.text_role={role!r}: must be 'query' or 'prompt'"
    )
  folder = epath.Path(workdir)
  source = config.candidates or folder / "sample" / "candidates.jsonl"
  inputs = {"candidates": source}
  if config.rules.text_check:
    inputs["judged"] = config.judged or folder / "text_pairs" / "judged.jsonl"
  work = stages.begin("video_pairs", lasting(config), workdir, inputs)
  if work.counts is not None:
    return work.counts
  rows = list(records.read(source, records.Candidates))
  passed = (
    passed_text_check(records.read(inputs["judged"], records.Judged))
    if config.rules.text_check
    else None
  )
  entries = [
    (row, candidate)
    for row in rows
    for candidate in row.candidates
    if passed is None or (row.query_id, candidate.index) in passed
  ]
  if not entries:
    raise errors.UserError(f"video_pairs: no candidate of {source} passed the check")
  return work.finish(
    _render_and_pair(config, work, entries)
    | {"candidates": sum(len(row.candidates) for row in rows)}
  )


def _render_and_pair(
  config: ml_collections.ConfigDict,
  work: stages.Stage,
  entries: list[tuple[records.Candidates, records.Candidate]],
) -> dict[str, Any]:
  role = config.scorer.text_role
  requests = [
    bridge.Request(
      candidate.prompt,
      noise_seed(row.query_id, number),
      row.query if role == "query" else candidate.prompt,
    )
    for row, candidate in entries
    for number in range(config.videos_per_prompt)
  ]
  weights = rewards.dimensions(config.scorer.dimensions)
  link = bridge.Bridge(config, work.folder, work.folder / "store")
  results = link.render_and_score(requests)
  scored: list[records.Scored] = []
  aside: list[records.SetAside] = []
  each = itertools.product(entries, range(config.videos_per_prompt))
  for ((row, candidate), number), request, result in zip(
    each, requests, results, strict=True
  ):
    if result.answers is None:
      reason = result.failure.reason if result.failure else "missing"
      aside.append(records.SetAside(result.video_id, request.prompt, reason))
      continue
    scored.append(_rate(row, candidate, number, result, link.questions, weights))
  rewards.check_alive(
    [row.yes for row in scored], [row.reward for row in scored], link.answers_folder
  )
  pairs = pairing.select(scored, config.rules)
  records.write(work.folder / "scores.jsonl", scored)
  records.write(work.folder / "set_aside.jsonl", aside)
  records.write(work.folder / "pairs.jsonl", pairs)
  return {
    "passed_text_check": len(entries),
    "asked": len(requests),
    "rendered": link.rendered,
    "scored": len(scored),
    "failed": len(aside),
    "pairs": len(pairs),
    "worker_restarts": link.restarts,
  } | _totals(results, scored, pairs)


def noise_seed(query_id: str, number: int) -> int:
  """The noise of a query's videos, one for all its prompts, whoever wrote them.

  So two rewards differ by their prompts and not by the noise.

  Args:
    number: which of several videos of a prompt.
  """
  return int(records.row_id(query_id, number), 16) % (1 << 31)


def _rate(
  row: records.Candidates,
  candidate: records.Candidate,
  number: int,
  result: bridge.Result,
  asked: bridge.Questions,
  weights: Mapping[str, float],
) -> records.Scored:
  assert result.answers is not None
  yes, scalars = tuple(result.answers.yes), result.answers.scalars
  if weights or not yes:  # a scorer of named rewards, which asks no questions
    groups = rewards.weighted(scalars, weights)
    reward, signed, yes = sum(groups.values()), 0.0, ()
  else:
    reward = rewards.reward_sum(yes, asked.weights)
    signed = rewards.reward_signed(yes, asked.weights)
    groups = rewards.group_rewards(yes, asked.weights, asked.groups)
  return records.Scored(
    query_id=row.query_id,
    query=row.query,
    index=candidate.index,
    prompt=candidate.prompt,
    video_id=result.video_id,
    seed=number,
    reward=reward,
    signed=signed,
    groups=groups,
    yes=yes,
    scalars=scalars,
  )


def _totals(
  results: Sequence[bridge.Result],
  scored: Sequence[records.Scored],
  pairs: Sequence[records.Pair],
) -> dict[str, Any]:
  values = [row.reward for row in scored]
  margins = [pair.margin or 0.0 for pair in pairs]
  videos = [result.video for result in results if result.video]
  answers = [result.answers for result in results if result.answers]
  return {
    "reward_mean": round(statistics.fmean(values), 4) if values else None,
    "reward_min": round(min(values), 4) if values else None,
    "reward_max": round(max(values), 4) if values else None,
    "margin_mean": round(statistics.fmean(margins), 4) if margins else None,
    "prompts_cut": sum(video.lost_tokens > 0 for video in videos),
    "render_seconds": round(sum(video.work_seconds for video in videos), 1),
    "score_seconds": round(sum(one.work_seconds for one in answers), 1),
  }


def lasting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config without what may change between runs of the same work."""
  kept = config.copy_and_resolve_references()
  with kept.unlocked():
    for name in _PASSING:
      del kept[name]
    for name in _PASSING_RENDERER:
      del kept.renderer[name]
    for name in _PASSING_SCORER:
      del kept.scorer[name]
  return kept


def _check(rules: ml_collections.ConfigDict) -> None:
  choices = {"pairing": ("every", "adjacent"), "order": ("best_margin", "first")}
  for name, allowed in choices.items():
    if rules[name] not in allowed:
      raise errors.UserError(
        f"config.rules.{name}={rules[name]!r}: must be one of {', '.join(allowed)}"
      )


def passed_text_check(judged: Iterable[records.Judged]) -> set[tuple[str, int]]:
  """Query and index of the candidates that may be rendered (paper, section 3.3)."""
  return {(row.query_id, row.index) for row in judged if row.passed}
