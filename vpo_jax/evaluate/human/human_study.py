"""Stage human_study: a study for raters from an evaluation's videos (paper, 4.2, 4.4).

study/           for the raters; they open index.html
key.jsonl        which systems and videos are behind each item; not for the raters
labels.json      the queries' classes, for results by class
label_studio.*   the same study for Label Studio
"""

import pathlib
from collections.abc import Mapping, Sequence

from torch_bridge import contract
from vpo_jax import buckets, errors, files, json_input, records, stages
from vpo_jax.evaluate import suite_run, suites
from vpo_jax.evaluate.human import study
from vpo_jax.evaluate.suites import base
from vpo_jax.feedback import store as stores
from vpo_jax.runtime import console


def run(work: stages.Work) -> stages.Counts:
  """Writes the study.

  Raises:
    UserError: the config names a system or a kind that does not exist, too few queries
      have videos, or a video is damaged or has its prompt in its metadata.
  """
  config = work.config
  rows = list(records.read(work.inputs["prompts"], records.Candidates))
  if config.kind == "levels":
    rows = [row for row in rows if row.category == "safety"]
  if not rows:
    reason = "no safety-related query" if config.kind == "levels" else "no query"
    raise errors.UserError(f"human_study: {work.inputs['prompts']}: {reason}")
  names = rows[0].settings["systems"]
  queries = {row.query_id: row.query for row in rows}
  rendered = _rendered(work, names, queries)
  store = stores.Store(config.store or work.store)
  videos = {
    name: {query: store.local.video(row.video_id) for query, row in found.items()}
    for name, found in rendered.items()
  }
  number = config.queries or None
  if config.kind == "pairs":
    made = study.pairs(
      videos, queries, _pairs(config.compare, names), number, config.seed
    )
  elif config.kind == "levels":
    shown = {name: videos[name] for name in _known(config.systems, names)}
    made = study.levels(shown, queries, number, config.seed)
  else:
    raise errors.UserError(f"config.kind={config.kind!r}: must be pairs or levels")
  _check(made, rendered, store)
  local = buckets.scratch(work.folder)
  if "labels" in work.inputs:
    labels = json_input.value(work.inputs["labels"])
    files.write_json(local / study.LABELS, {q: labels[q] for q in queries})
  study.write(made, pathlib.Path(local), config.videos_at)
  buckets.store_all(work.folder)
  console.say(
    f"give raters {work.folder / study.RATERS}, and keep {study.KEY} from them"
  )
  return {
    "study": made.id,
    "queries": len({key.query_id for key in made.keys}),
    "items": len(made.items),
    "videos": len(made.sources),
  }


def _rendered(
  work: stages.Work, names: Sequence[str], queries: Mapping[str, str]
) -> dict[str, dict[str, base.Made]]:
  """The first video of each prompt, by system and query."""
  (suite,) = suites.parse([work.config.suite])
  found: dict[str, dict[str, base.Made]] = {name: {} for name in names}
  for row in suite_run.read_videos(suite, work.inputs["videos"]):
    if row.query_id in queries and row.seed == 0:
      name: str = names[row.index]
      found[name][row.query_id] = row
  return found


def _pairs(rows: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
  """The pairs of rows such as "vpo original"; by default the last system with each."""
  if not rows:
    return [(names[-1], name) for name in names[:-1]]
  found = []
  for row in rows:
    parts = row.split()
    if len(parts) != 2:
      raise errors.UserError(
        f'config.compare: {row!r}: must be two systems, such as "vpo original"'
      )
    found.append((parts[0], parts[1]))
  return found


def _known(chosen: Sequence[str], names: Sequence[str]) -> Sequence[str]:
  for name in chosen:
    if name not in names:
      raise errors.UserError(
        f"config.systems: no system {name!r}; the evaluation has {', '.join(names)}"
      )
  return chosen or names


def _check(
  made: study.Study,
  rendered: Mapping[str, Mapping[str, base.Made]],
  store: stores.Store,
) -> None:
  """Fetches the study's videos; checks that they are whole and do not hold the prompt.

  Some renderers write their input into the file's metadata, where a rater can read it.
  """
  shown = {
    (system, key.query_id)
    for key in made.keys
    for system in (key.left, key.right)
    if system
  }
  rows = [rendered[system][query] for system, query in sorted(shown)]
  store.fetch(row.video_id for row in rows)
  for row in rows:
    _check_video(row, store.local)


def _check_video(row: base.Made, store: contract.Store) -> None:
  path = store.video(row.video_id)
  if store.find_video(row.video_id) is None:
    raise errors.UserError(f"{path}: missing or damaged; run launch/evaluate.py again")
  told = row.prompt.encode()
  if told and row.prompt != row.query and told in path.read_bytes():
    raise errors.UserError(
      f"{path}: holds its prompt as metadata, where raters can read it; remove it, for"
      " example with ffmpeg -map_metadata -1 -c copy, and evaluate again"
    )


def _inputs(config: stages.Config) -> stages.Inputs:
  (suite,) = suites.parse([config.suite])
  folder = f"evaluate/{suite.name}/{config.video_model}"
  return (
    stages.Input("prompts", f"{folder}/prompts.jsonl"),
    stages.Input("videos", f"{folder}/{suite_run.videos_file(suite)}"),
    stages.Input("labels", f"suites/{suite.name}/labels.json", optional=True),
  )


# Not cheap: a study that people already work on must not be replaced by another.
STAGE = stages.Stage(
  name="human_study",
  run=run,
  inputs=_inputs,
  execution_keys=("store",),
  folder=lambda config: config.folder,
)
