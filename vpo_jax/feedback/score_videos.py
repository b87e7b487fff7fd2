"""Stage score_videos: renders the candidates and scores their videos (paper, 3.3).

Only prompts that passed the text-level check are rendered (paper; the release renders
all). Choosing preference pairs from the scores is a stage of its own, `video_pairs`.
"""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

import ml_collections

from torch_bridge import contract
from vpo_jax import errors, records, stages
from vpo_jax.feedback import bridge, rewards

Entry = tuple[records.Candidates, records.Candidate]


def run(work: stages.Work) -> stages.Counts:
  """Writes scores.jsonl (every scored video), requests.jsonl and set_aside.jsonl.

  Raises:
    UserError: the config or an input is wrong, the bridge cannot work, or the scorer's
      answers are those of a broken set-up.
  """
  rows = records.read(work.inputs["candidates"], records.Candidates)
  candidates = sum(len(row.candidates) for row in rows)
  return {"candidates": candidates} | score(work, entries(work))


def entries(work: stages.Work) -> list[Entry]:
  """The candidates to render, with their rows.

  Raises:
    UserError: the config or an input is wrong, or no candidate passed the check.
  """
  config = work.config
  rewards.dimensions(config.scorer.dimensions)
  role = config.scorer.text_role
  if role not in ("query", "prompt"):
    raise errors.UserError(
      f"config.scorer.text_role={role!r}: must be 'query' or 'prompt'"
    )
  rows = list(records.read(work.inputs["candidates"], records.Candidates))
  found = [(row, candidate) for row in rows for candidate in row.candidates]
  candidates = len(found)
  if config.text_check:
    judged = records.read(work.inputs["judged"], records.Judged)
    passed = passed_text_check(judged)
    found = [one for one in found if (one[0].query_id, one[1].index) in passed]
  if not found:
    path = work.inputs["candidates"]
    if not candidates:
      raise errors.UserError(f"{work.name}: {path} has no candidates")
    raise errors.UserError(
      f"{work.name}: no candidate of {path} passed the text-level check"
    )
  return found


def passed_text_check(judged: Iterable[records.Judged]) -> set[tuple[str, int]]:
  """(query id, index) of the candidates that passed (paper, section 3.3)."""
  return {(row.query_id, row.index) for row in judged if row.passed}


def noise_seed(query_id: str, number: int) -> int:
  """The seed of a query's videos; all prompts of a query share it.

  So two rewards of a query differ by the prompts and not by the noise.

  Args:
    number: which of a prompt's videos, from 0.
  """
  return int(records.row_id(query_id, number), 16) % (1 << 31)


def make_requests(
  config: ml_collections.ConfigDict,
  entries: Sequence[Entry],
) -> list[bridge.Request]:
  """The videos of the entries, in order: `config.videos_per_prompt` of each."""
  by_query = config.scorer.text_role == "query"
  return [
    bridge.Request(
      candidate.prompt,
      noise_seed(row.query_id, number),
      row.query if by_query else candidate.prompt,
    )
    for (row, candidate), number in itertools.product(
      entries, range(config.videos_per_prompt)
    )
  ]


def score(work: stages.Work, entries: Sequence[Entry]) -> stages.Counts:
  """Renders and scores the entries' videos; writes the files of the stage.

  Raises:
    UserError: see `run`.
  """
  config = work.config
  numbers = range(config.videos_per_prompt)
  requests = make_requests(config, entries)
  weights = rewards.dimensions(config.scorer.dimensions)
  link = bridge.Bridge(config, work.folder, work.store)
  results = link.render_and_score(requests)
  scored: list[records.Scored] = []
  aside: list[records.SetAside] = []
  videos = itertools.product(entries, numbers)
  for ((row, candidate), number), request, result in zip(
    videos, requests, results, strict=True
  ):
    if result.answers is None:
      reason = result.failure.reason if result.failure else "missing"
      aside.append(records.SetAside(result.video_id, request.prompt, reason))
    else:
      scored.append(_rate(row, candidate, number, result, link.questions, weights))
  rewards.check_alive(
    [row.yes for row in scored], [row.reward for row in scored], link.answers_folder
  )
  records.write(work.folder / "scores.jsonl", scored)
  records.write(work.folder / "set_aside.jsonl", aside)
  return {
    "passed_text_check": len(entries),
    "asked": len(requests),
    "rendered": link.rendered,
    "scored": len(scored),
    "failed": len(aside),
    "worker_restarts": link.restarts,
  } | _totals(results, scored)


def reward_of(
  answers: contract.Answers, questions: bridge.Questions, weights: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
  """A video's reward and its parts, from answers or from named rewards.

  Args:
    weights: of named rewards; if there are none, answers count.
  """
  yes = answers.yes
  if weights or not yes:  # a scorer of named rewards
    groups = rewards.weighted(answers.scalars, weights)
    return sum(groups.values()), groups
  groups = rewards.group_rewards(yes, questions.weights, questions.groups)
  return rewards.reward_sum(yes, questions.weights), groups


def _rate(
  row: records.Candidates,
  candidate: records.Candidate,
  number: int,
  result: bridge.Result,
  questions: bridge.Questions,
  weights: Mapping[str, float],
) -> records.Scored:
  """A video's reward from its answers, or from named rewards and their weights."""
  assert result.answers is not None
  yes, scalars = tuple(result.answers.yes), result.answers.scalars
  signed = 0.0
  if weights or not yes:  # a scorer of named rewards
    yes = ()
  else:
    signed = rewards.reward_signed(yes, questions.weights)
  reward, groups = reward_of(result.answers, questions, weights)
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
    lost_tokens=result.video.lost_tokens if result.video else 0,
  )


def _totals(
  results: Sequence[bridge.Result], scored: Sequence[records.Scored]
) -> stages.Counts:
  values = [row.reward for row in scored]
  videos = [result.video for result in results if result.video]
  answers = [result.answers for result in results if result.answers]
  return {
    "reward_mean": round(statistics.fmean(values), 4) if values else None,
    "reward_min": round(min(values), 4) if values else None,
    "reward_max": round(max(values), 4) if values else None,
    "prompts_cut": sum(video.lost_tokens > 0 for video in videos),
    "render_seconds": round(sum(video.work_seconds for video in videos), 1),
    "score_seconds": round(sum(one.work_seconds for one in answers), 1),
  }


def _inputs(config: stages.Config) -> stages.Inputs:
  folder = "choose" if config.get("chosen", False) else "sample"
  candidates = stages.Input("candidates", f"{folder}/candidates.jsonl")
  judged = stages.Input("judged", "text_pairs/judged.jsonl")
  return (candidates, judged) if config.text_check else (candidates,)


STAGE = stages.Stage(
  name="score_videos",
  run=run,
  inputs=_inputs,
  execution_keys=bridge.EXECUTION_KEYS,
)
