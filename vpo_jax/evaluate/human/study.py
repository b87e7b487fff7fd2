"""A study: what raters see, and the key to it that they do not see.

In a study of pairs a rater compares the videos of two systems for a query (paper,
figure 3). In a study of levels a rater gives one video a safety level (figure 4).

    study/            for the raters: index.html and videos under names that say nothing
    key.jsonl         which systems and videos are behind each item
    label_studio.*    the same study for Label Studio, instead of index.html
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from etils import epath

from vpo_jax import errors, records
from vpo_jax.evaluate.human import label_studio, page, questions

RATERS = "study"  # the folder that raters get
KEY = "key.jsonl"
LABELS = "labels.json"  # classes of the queries, beside the key

# The videos of each system by query. A video's id is its file's name without suffix.
Videos = Mapping[str, Mapping[str, pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class Key:
  """What is behind an item: a row of key.jsonl.

  Attributes:
    study: the study's id.
    item: the item's id.
    left: the system whose video is on the left; in a study of levels, the system.
    left_video: the id of its video.
    right: the system on the right; "" in a study of levels.
    swapped: the study compares `right` with `left`, not `left` with `right`.
  """

  study: str
  item: str
  kind: questions.Kind
  query_id: str
  left: str
  left_video: str
  right: str = ""
  right_video: str = ""
  swapped: bool = False


@dataclasses.dataclass(frozen=True)
class Study:
  """A study in the order in which raters see it.

  Attributes:
    id: a hash of all that raters see.
    items: what raters see.
    keys: what is behind each item, in the same order.
    sources: the video files, by their names in the raters' folder.
  """

  id: str
  kind: questions.Kind
  items: tuple[page.Item, ...]
  keys: tuple[Key, ...]
  sources: Mapping[str, pathlib.Path]


def pairs(
  videos: Videos,
  queries: Mapping[str, str],
  compare: Sequence[tuple[str, str]],
  number: int | None = None,
  seed: int = 0,
) -> Study:
  """A study that compares systems in pairs (paper, figure 3).

  Which video is on the left depends on the seed, the query and the two systems only, so
  that it stays the same when other queries or systems are added.

  Args:
    queries: the users' queries, by id.
    compare: pairs of systems; the first is the one whose wins are counted.
    number: queries to draw at random; None takes all that have the videos.
    seed: of the draw, the sides and the order.

  Raises:
    UserError: a pair is not of two systems with videos or is listed twice, or too few
      queries have a video from every compared system.
  """
  _check(compare, videos)
  names = dict.fromkeys(name for pair in compare for name in pair)
  keys = []
  for query_id in _drawn({name: videos[name] for name in names}, queries, number, seed):
    for one, two in compare:
      item = records.row_id("item", seed, query_id, one, two)
      swapped = int(records.row_id("side", seed, query_id, one, two), 16) % 2 == 1
      left, right = (two, one) if swapped else (one, two)
      keys.append(
        Key(
          study="",
          item=item,
          kind="pairs",
          query_id=query_id,
          left=left,
          left_video=videos[left][query_id].stem,
          right=right,
          right_video=videos[right][query_id].stem,
          swapped=swapped,
        )
      )
  return _study("pairs", keys, videos, queries, seed)


def levels(
  videos: Videos,
  queries: Mapping[str, str],
  number: int | None = None,
  seed: int = 0,
) -> Study:
  """A study that gives each video of each system a safety level (paper, figure 4).

  Args:
    queries: the safety-related queries, by id.
    number: queries to draw at random; None takes all that have the videos.
    seed: of the draw and the order.

  Raises:
    UserError: too few queries have a video from every system.
  """
  keys = [
    Key(
      study="",
      item=records.row_id("item", seed, query_id, name),
      kind="levels",
      query_id=query_id,
      left=name,
      left_video=videos[name][query_id].stem,
    )
    for query_id in _drawn(videos, queries, number, seed)
    for name in videos
  ]
  return _study("levels", keys, videos, queries, seed)


def _check(compare: Sequence[tuple[str, str]], videos: Videos) -> None:
  seen = set()
  for one, two in compare:
    for name in (one, two):
      if name not in videos:
        raise errors.UserError(
          f"compare: no system {name!r}; systems with videos: {', '.join(videos)}"
        )
    if one == two or frozenset((one, two)) in seen:
      raise errors.UserError(f"compare: {one} with {two}: list two systems, once")
    seen.add(frozenset((one, two)))
  if not compare:
    raise errors.UserError("compare: name at least one pair of systems")


def _drawn(
  videos: Videos, queries: Mapping[str, str], number: int | None, seed: int
) -> list[str]:
  """A random sample of the queries that have a video from every system."""
  complete = [one for one in queries if all(one in made for made in videos.values())]
  if not complete:
    raise errors.UserError(
      f"no query has a video from every system ({', '.join(videos)})"
    )
  if number is not None and not 0 < number <= len(complete):
    raise errors.UserError(
      f"{number} queries cannot be drawn: {len(complete)} have a video from every"
      f" system ({', '.join(videos)})"
    )
  ordered = sorted(complete, key=lambda one: records.row_id("draw", seed, one))
  return ordered[:number]


def _study(
  kind: questions.Kind,
  keys: Sequence[Key],
  videos: Videos,
  queries: Mapping[str, str],
  seed: int,
) -> Study:
  """The study of these keys in random order."""
  keys = sorted(keys, key=lambda key: records.row_id("order", seed, key.item))
  items, sources = [], {}
  for key in keys:
    names = []
    for side, system in ((questions.LEFT, key.left), (questions.RIGHT, key.right)):
      if system:
        source = videos[system][key.query_id]
        name = records.row_id(key.item, side) + source.suffix
        sources[name] = source
        names.append(name)
    items.append(page.Item(key.item, queries[key.query_id], tuple(names)))
  shown = [part for item in items for part in (item.id, item.query, *item.videos)]
  study_id = records.row_id(kind, seed, *shown)
  keyed = tuple(dataclasses.replace(key, study=study_id) for key in keys)
  return Study(study_id, kind, tuple(items), keyed, sources)


def write(study: Study, folder: pathlib.Path, videos_at: str = "videos/") -> None:
  """Writes the raters' folder, the key, and the files for Label Studio.

  The videos are copied, not linked: links would keep the time of rendering, which tells
  systems apart.

  Args:
    folder: a local folder; raters get its subfolder `RATERS` only.
    videos_at: where Label Studio finds the videos; a video's name is appended to it.

  Raises:
    UserError: a video does not exist.
  """
  raters = folder / RATERS
  if raters.exists():
    shutil.rmtree(raters)
  (raters / page.VIDEOS).mkdir(parents=True)
  for name, source in study.sources.items():
    if not source.exists():
      raise errors.UserError(f"{source}: no such video; render it again")
    shutil.copyfile(source, raters / page.VIDEOS / name)
  page.write(raters / "index.html", study.id, study.kind, study.items)
  label_studio.write(folder, study.id, study.kind, study.items, videos_at)
  records.write(folder / KEY, study.keys)


def read_key(path: epath.PathLike) -> tuple[Key, ...]:
  """The rows of key.jsonl.

  Raises:
    UserError: the file cannot be read, or is not the key of one study.
  """
  found = tuple(records.read(path, Key))
  if len({key.study for key in found}) != 1:
    raise errors.UserError(f"{path}: must be the key of one study")
  return found
