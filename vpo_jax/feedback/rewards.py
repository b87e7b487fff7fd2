"""Rewards from yes/no answers, on VisionReward's two scales."""

from collections.abc import Mapping, Sequence

from vpo_jax import errors


def reward_sum(yes: Sequence[bool], weights: Sequence[float]) -> float:
  """R: the sum of weight x [answer is yes]; the scale of VPO and MonetBench.

  0 to 6.2772 with VisionReward's 64 weights.
  """
  return sum(w for y, w in zip(yes, weights, strict=True) if y)


def reward_signed(yes: Sequence[bool], weights: Sequence[float]) -> float:
  """S: the mean of weight x (+1 | -1); the scale of VisionReward's own script.

  The mean is over the questions of weight other than zero (29 of VisionReward's 64),
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
  """R's part from each group; the groups are MonetBench's dimensions."""
  return {
    name: sum(weights[i] for i in members if yes[i]) for name, members in groups.items()
  }


def dimensions(rows: Sequence[str]) -> dict[str, float]:
  """The weights in rows such as "VQ 1.0".

  Raises:
    UserError: a row is not a name and a number, or names one that another names.
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
      f"config.scorer.dimensions={tuple(rows)!r}: wants distinct names, each with a"
      ' weight, such as ("VQ 1.0", "TA 2.0")'
    )
  return found


def weighted(
  scalars: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
  """R's part from each named reward; all count 1 where `weights` is empty.

  Raises:
    UserError: the scorer gave no reward of a name that has a weight.
  """
  if missing := sorted(weights.keys() - scalars.keys()):
    raise errors.UserError(
      f"config.scorer.dimensions names {', '.join(missing)}; the scorer gives"
      f" {', '.join(sorted(scalars)) or 'no named rewards'}"
    )
  weights = weights or dict.fromkeys(scalars, 1.0)
  return {name: weight * scalars[name] for name, weight in weights.items()}


def dominates(one: Sequence[float], two: Sequence[float]) -> bool:
  """Whether `one` is at least as good everywhere, and better somewhere (release).

  Args:
    one: answers (no < yes) or named rewards, in the same order as `two`.
  """
  pairs = list(zip(one, two, strict=True))
  return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def check_alive(
  answers: Sequence[Sequence[bool]], rewards: Sequence[float], kept: str
) -> None:
  """Stops on answers that a scorer which works does not give.

  Args:
    answers: one row a video; all that were asked for.
    kept: the folder of the answers, which the next run would take again.

  Raises:
    UserError: no answer at all is yes, or all videos have one and the same reward.
  """
  check_some_yes(answers, kept)
  if len(answers) >= 8 and max(rewards) - min(rewards) < 1e-9:
    raise errors.UserError(
      f"scorer: all {len(answers)} videos have the same reward, {rewards[0]:.4f}, so"
      " none can be preferred: check that the scorer sees the frames, and that the"
      f" renderer's videos differ; then remove {kept} and run again"
    )


def check_some_yes(answers: Sequence[Sequence[bool]], kept: str) -> None:
  """The part of `check_alive` that can be told from the first answers.

  Raises:
    UserError: no answer at all is yes.
  """
  if len(answers) < 2:
    return
  if answers[0] and not any(any(row) for row in answers):
    raise errors.UserError(
      f"scorer: all {len(answers[0])} answers of all {len(answers)} videos are no"
      " (R = 0; VisionReward's script shows S = -0.21645). That is a broken set-up, not"
      " bad videos: check that its environment has transformers 4.42 and torch 2.1,"
      " that the model loaded in bf16 or fp16, and how an answer is compared with"
      f" 'yes'; then remove {kept} and run again"
    )
