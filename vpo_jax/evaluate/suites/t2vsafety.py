"""T2VSafetyBench: prompts that ask for unsafe videos (paper, section 4.4, figure 4).

The prompts have no licence, so they are read from the user's checkout: `1.txt` to
`14.txt` with one prompt a line, and `definition.txt` with the names of the classes.
Some lines are garbled on purpose (jailbreaks) and some bytes are not UTF-8; those are
read as U+FFFD, as the benchmark's own code reads them.
"""

import collections
from collections.abc import Mapping

import ml_collections
import numpy as np
from etils import epath

from vpo_jax import errors, records, stages
from vpo_jax.evaluate import levels, measures, safety_levels
from vpo_jax.evaluate.suites import base, measured

CLASSES = 14
NOT_JUDGED = "not judged"


def load(
  config: ml_collections.ConfigDict, inputs: Mapping[str, epath.Path]
) -> list[base.Item]:
  """A sample of the prompts in which each class has its share (paper, appendix 9).

  Raises:
    UserError: the folder is not T2VSafetyBench's.
  """
  own = config.t2vsafety
  prompts = read(inputs["t2vsafety.folder"])
  sizes = shares([len(texts) for texts in prompts.values()], own.count)
  random = np.random.default_rng(own.seed)
  classes: dict[str, list[str]] = collections.defaultdict(list)
  for (name, texts), size in zip(prompts.items(), sizes, strict=True):
    for place in sorted(random.permutation(len(texts))[:size]):
      classes[texts[place]].append(name)
  return [
    base.Item(
      records.Query(records.row_id(text), text, "safety"), {"class": tuple(names)}
    )
    for text, names in classes.items()
  ]


def read(folder: epath.Path) -> dict[str, list[str]]:
  """The distinct prompts of each class, by the class's name.

  Raises:
    UserError: a file is missing or empty, or the definitions are not one a class.
  """
  definitions = _lines(folder / "definition.txt")
  if len(definitions) != CLASSES:
    raise errors.UserError(
      f"{folder / 'definition.txt'}: has {len(definitions)} lines instead of {CLASSES}"
    )
  found = {}
  for number, line in enumerate(definitions, start=1):
    name = line.partition(":")[0].strip()
    found[name] = list(dict.fromkeys(_lines(folder / f"{number}.txt")))
    if not found[name]:
      raise errors.UserError(f"{folder / f'{number}.txt'}: holds no prompt")
  return found


def _lines(path: epath.Path) -> list[str]:
  if not path.exists():
    raise errors.UserError(
      f"{path} does not exist; name T2VSafetyBench's folder of prompts with"
      " --config.t2vsafety.folder=CHECKOUT/T2VSafetyBench"
    )
  text = path.read_bytes().decode("utf-8", errors="replace")
  lines = (line.strip("\ufeff \t\r") for line in text.split("\n"))
  return [line for line in lines if line]


def shares(sizes: list[int], count: int) -> list[int]:
  """`count` divided in proportion to `sizes`, by largest remainders.

  Returns: one number per class, at most its size; the sum is the smaller of `count` and
    the sum of the sizes.
  """
  total = sum(sizes)
  count = min(count or total, total)
  exact = [count * size / total for size in sizes]
  found = [int(share) for share in exact]
  order = sorted(range(len(sizes)), key=lambda k: (found[k] - exact[k], k))
  for k in order[: count - sum(found)]:
    found[k] += 1
  return found


def judged(found: base.Found) -> list[measures.Measure]:
  """The shares of the judge's levels, and of the videos that it did not judge.

  Empty if the config names no judge, so that only people give levels (`human_study`).
  A video that the judge refuses is not judged. Its query counts in no other measure, so
  that a refusal never looks like a safe video.

  Raises:
    UserError: the judge cannot be used.
  """
  own = found.config.t2vsafety
  if not own.judge.name:
    return []
  made: list[measures.Measure] = []
  names = [one.name for one in found.chosen]
  for model in found.videos:
    folder = found.folder / model
    video_model = found.config.video_models[model]
    config = ml_collections.ConfigDict(
      {
        "videos": str(folder / "render_videos" / "videos.jsonl"),
        "renderer": video_model.renderer.to_dict(),
        "scorer": own.judge.to_dict(),
        "levels": found.config.compare.levels,
        "bridge": video_model.bridge.to_dict(),
      }
    )
    stages.run(safety_levels.STAGE, config, folder, found.work.root)
    path = folder / safety_levels.STAGE.name / "levels.jsonl"
    by_video: dict[str, dict[str, list[int]]] = {
      name: {} for name in found.videos[model]
    }
    for row in records.read(path, safety_levels.JudgedVideo):
      by_video[names[row.index]].setdefault(row.query_id, []).append(row.level)
    made += measures_of(by_video, model)
  return made


def measures_of(
  by_video: Mapping[str, Mapping[str, list[int]]], model: str
) -> list[measures.Measure]:
  """The shares of the levels; level 0 is "not judged".

  Args:
    by_video: the levels of each query's videos, by system and query.
  """
  missing = {
    name: {q: float(np.mean([not level for level in found])) for q, found in by.items()}
    for name, by in by_video.items()
  }
  shares_of = {
    name: {
      query: [
        float(np.mean([level == k + 1 for level in found if level]))
        for k in range(len(levels.LEVELS))
      ]
      for query, found in by.items()
      if any(found)
    }
    for name, by in by_video.items()
  }
  unjudged = measures.Measure(NOT_JUDGED, missing, model, unit="%", better="low")
  return [*measured.by_level(shares_of, model), unjudged]


SUITE = base.Suite(
  name="t2vsafety",
  title="T2VSafetyBench",
  load=load,
  measures=(judged,),
  inputs=lambda config: (stages.Input("t2vsafety.folder"),),
  scored=False,
)
