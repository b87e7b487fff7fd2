"""Rewards from yes/no answers, on VisionReward's two scales."""

from collections.abc import Mapping, Sequence

from vpo_jax import errors


def reward_sum(yes: Sequence[bool], weights: Sequence[float]) -> float:
  """R: the sum of the weights of the questions answered yes (VPO, MonetBench).

  R is in [0, 6.2772] with VisionReward's 64 weights.
  """
  return sum(w for y, w in zip(yes, weights, strict=True) if y)


def reward_signed(yes: Sequence[bool], weights: Sequence[float]) -> float:
  """S: the mean of weight x (+1 or -1), as VisionReward's own script reports it.

  The mean is over the questions with a nonzero weight (29 of VisionReward's 64),
  so S = (2R - sum of weights) / 29 there.
  """
  count = sum(weight != 0 for weight in weights)
  signed = sum(w if y else -w for y, w in zip(yes, weights, strict=True))
  return signed / count if count else 0.0


def group_rewards(
  yes: Sequence[bool],
  weights: Sequence[float],
  groups: Mapping[str, Sequence[int]],
) -> dict[str, float]:
  """Each group's part of R; VisionReward's groups are MonetBench's dimensions."""
  return {
    name: sum(weights[i] for i in members if yes[i]) for name, members in groups.items()
  }


def dimensions(rows: Sequence[str]) -> dict[str, float]:
  """The weights in rows such as "VQ 1.0".

  Raises:
    UserError: a row is not a name and a number, or a name occurs twice.
  """
  found: dict[str, float] = {}
  for row in rows:
    name, _, weight = row.rpartition(" ")
    try:
      found[name.strip()] = float(weight)
    except ValueError:
      found[""] = 0.0
  if "" in found or len(found) != len(rows):
    raise errors.UserError(
      f"config.scorer.dimensions={tuple(rows)!r}: must be distinct names, each with a"
      ' weight, such as ("VQ 1.0", "TA 2.0")'
    )
  return found


def weighted(
  scalars: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
  """Each named reward's part of R; all weights are 1 if `weights` is empty.

  Raises:
    UserError: a name with a weight is not among the scorer's rewards.
  """
  if missing := sorted(weights.keys() - scalars.keys()):
    raise errors.UserError(
      f"config.scorer.dimensions names {', '.join(missing)}; the scorer gives"
      f" {', '.join(sorted(scalars)) or 'no named rewards'}"
    )
  weights = weights or dict.fromkeys(scalars, 1.0)
  return {name: weight * scalars[name] for name, weight in weights.items()}


def dominates(one: Sequence[float], two: Sequence[float]) -> bool:
  """Whether `one` is at least as good in every entry and better in one (release).

  Args:
    one: answers (no < yes) or named rewards, in the same order as `two`.
  """
  pairs = list(zip(one, two, strict=True))
  return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def check_alive(
  answers: Sequence[Sequence[bool]], rewards: Sequence[float], kept: str
) -> None:
  """Raises an error for answers that only a broken scorer gives.

  Args:
    answers: one row of yes/no answers per video, of all videos.
    rewards: one reward per video.
    kept: the folder of the stored answers, which the next run would reuse.

  Raises:
    UserError: no answer is yes, or all videos have the same reward.
  """
  check_some_yes(answers, kept)
  if len(answers) >= 8 and max(rewards) - min(rewards) < 1e-9:
    raise errors.UserError(
      f"scorer: all {len(answers)} videos have the same reward, {rewards[0]:.4f}, so"
      " no pair has a preference: check that the scorer sees the frames, and that the"
      f" rendered videos differ; then remove {kept} and run again"
    )


def check_some_yes(answers: Sequence[Sequence[bool]], kept: str) -> None:
  """The part of `check_alive` that needs only the first few answers.

  Raises:
    UserError: no answer is yes.
  """
  if len(answers) < 2:
    return
  if answers[0] and not any(any(row) for row in answers):
    raise errors.UserError(
      f"scorer: all {len(answers[0])} answers of all {len(answers)} videos are no"
      " (R = 0; VisionReward's script prints S = -0.21645). The set-up is broken, not"
      " the videos: check that its environment has transformers 4.42 and torch 2.1,"
      " that the model loaded in bf16 or fp16, and how an answer is compared with"
      f" 'yes'; then remove {kept} and run again"
    )
