"""Reads raters' answers to a study; prints win rates, intervals and agreement.

    python launch/human_results.py --workdir=runs/mine --answers=anna.json,bob.json

The files are those that the study's page downloads, or JSON exports of Label Studio.
Writes results.json to the study's folder.
"""

from absl import flags
from etils import epath

from vpo_jax.runtime import app

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The workdir of launch/human_study.py.", required=True
)
_ANSWERS = flags.DEFINE_list(
  "answers", None, "Files of answers, separated by commas.", required=True
)
_FOLDER = flags.DEFINE_string(
  "folder", "human_study", "The study's folder in the workdir."
)
_JUDGE = flags.DEFINE_string(
  "judge",
  "",
  "Another judge's safety levels to compare with: JSON Lines of video_id and level.",
)
_DRAWS = flags.DEFINE_integer("draws", 10_000, "Resamples of each bootstrap.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the bootstraps.", 0)


def main() -> None:
  from vpo_jax.evaluate.human import results

  results.publish(
    epath.Path(_WORKDIR.value) / _FOLDER.value,
    _ANSWERS.value,
    judge=_JUDGE.value,
    draws=_DRAWS.value,
    seed=_SEED.value,
  )


if __name__ == "__main__":
  app.run(main)
