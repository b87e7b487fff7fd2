"""Makes both studies of a rehearsal and answers them as people would: by file.

    python -m tests.rehearsal.raters --workdir=runs/rehearsal

The answers are by chance. The evaluation reads their results (`config.ratings`).
"""

import argparse
import json
import pathlib
import random

from configs import human_study as human_study_config
from vpo_jax import stages
from vpo_jax.evaluate.human import human_study, questions, results, study

STUDIES = {
  "human_study": {"suite": "monetbench", "kind": "pairs"},
  "human_levels": {"suite": "t2vsafety", "kind": "levels"},
}
RATERS = ("anna", "bob", "carla")


def rate(workdir: pathlib.Path, folder: str) -> None:
  """Makes a study in `folder`, and writes three raters' answers and the results."""
  config = human_study_config.get_config()
  config.update(folder=folder, **STUDIES[folder])
  stages.run(human_study.STAGE, config, workdir)
  keys = study.read_key(workdir / folder / study.KEY)
  paths = []
  for rater in RATERS:
    chance = random.Random(rater)
    answers = [
      {
        "item": key.item,
        "question": question.id,
        "choice": chance.choice(question.choices).value,
        "at": "",
      }
      for key in keys
      for question in questions.QUESTIONS[key.kind]
    ]
    path = workdir / f"{folder}-{rater}.json"
    value = {"format": "ratings", "version": 1, "study": keys[0].study, "rater": rater}
    path.write_text(json.dumps(value | {"answers": answers}))
    paths.append(path)
  levels = workdir / "evaluate/t2vsafety/main/safety_levels/levels.jsonl"
  judge = levels if STUDIES[folder]["kind"] == "levels" else ""
  results.publish(workdir / folder, paths, judge=judge, draws=200)


def main() -> None:
  parser = argparse.ArgumentParser(description="Rates a rehearsal's videos.")
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  workdir = parser.parse_args().workdir
  for folder in STUDIES:
    rate(workdir, folder)


if __name__ == "__main__":
  main()
