"""Videos under the names that VBench expects: `{prompt}-{0..4}.mp4`.

VBench expects one folder per model. It looks a video up by the text of VBench's own
prompt, even if the video was rendered from a rewritten prompt, and reads the label of
`human_action` from the name. Elsewhere a video is named by its id. A name made from a
text has no separators, control characters or leading dots, and is short enough for a
file system.
"""

import collections
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from vpo_jax import errors, files, records
from vpo_jax.evaluate.vbench import prompts as prompts_lib
from vpo_jax.feedback import store as stores

# A video: the text that it is evaluated with, and its number from 0.
Video = tuple[str, int]

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]+")
# Bytes of the text. File systems allow 255 for the whole name; VBench's longest prompt
# has 210, and VBench-Long adds up to nine to "-0.mp4".
_LONGEST = 236


def name(text: str, number: int) -> str:
  """The file name of one of a text's videos.

  A safe text is used unchanged, like all of VBench's own prompts. A text that had to be
  changed also gets a hash, so that two texts never share a name.
  """
  safe = _cut(_UNSAFE.sub("_", text).lstrip("."), _LONGEST)
  if safe != text or not safe:
    mark = f"-{records.row_id(text)}"
    safe = _cut(safe, _LONGEST - len(mark)).strip() + mark
  return f"{safe}-{number}.mp4"


def _cut(text: str, size: int) -> str:
  return text.encode(errors="replace")[:size].decode(errors="ignore")


def expected(
  prompts: Sequence[prompts_lib.Prompt], videos_per_prompt: int, dimension: str = ""
) -> list[Video]:
  """The videos that VBench needs for some prompts.

  Args:
    dimension: if given, only those that this dimension needs.
  """
  return [
    (prompt.text, number)
    for prompt in prompts
    if not dimension or dimension in prompt.dimensions
    for number in range(videos_per_prompt)
  ]


def check(
  videos: Iterable[Video],
  prompts: Sequence[prompts_lib.Prompt],
  videos_per_prompt: int,
) -> None:
  """Checks that every dimension has its videos; VBench would score without some.

  Raises:
    UserError: videos are missing; counts them by dimension and names the first.
  """
  there = set(videos)
  wanted = expected(prompts, videos_per_prompt)
  first = next((video for video in wanted if video not in there), None)
  if first is None:
    return
  counts = []
  for dimension in dict.fromkeys(
    one for prompt in prompts for one in prompt.dimensions
  ):
    needed = expected(prompts, videos_per_prompt, dimension)
    if missing := sum(video not in there for video in needed):
      counts.append(f"{missing} of {len(needed)} of {dimension}")
  raise errors.UserError(
    f"vbench: videos are missing: {', '.join(counts)}; the first is {name(*first)}"
  )


def lay_out(videos: Mapping[Video, pathlib.Path], out: epath.PathLike) -> pathlib.Path:
  """Links videos (copies them to another file system) into the folder `out`.

  Args:
    videos: local files by the text they are evaluated with and their number.
    out: one folder per model; created if it does not exist. It then holds nothing else,
      because VBench takes the videos' suffix from any entry of the folder.

  Returns: the folder.

  Raises:
    UserError: there are no videos, the folder holds anything else, or it is in a
      bucket.
  """
  if not videos:
    raise errors.UserError(f"{out}: there is no video to link for VBench")
  if files.is_bucket(out):
    raise errors.UserError(f"{out}: VBench needs a local folder")
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  names = {name(*video): path for video, path in videos.items()}
  strays = sorted({path.name for path in folder.iterdir()} - names.keys())
  if strays:
    raise errors.UserError(
      f"{folder}: holds {strays[0]!r}, which is none of its videos"
      f" ({len(strays)} such entries); remove it or use another folder"
    )
  for target, path in names.items():
    _link(path, folder / target)
  if len(os.listdir(folder)) != len(names):
    raise errors.UserError(
      f"{folder}: its file system takes different names for the same one;"
      " use a folder on another disk"
    )
  return folder


def scored(
  scores: epath.PathLike, store: epath.PathLike, index: int | None = None
) -> dict[Video, pathlib.Path]:
  """The videos of the stage score_videos, by their query and number.

  Args:
    scores: scores.jsonl, of a run with VBench's prompts as queries.
    store: the bridge's store.
    index: of the candidates; None is each query's first.

  Raises:
    UserError: there are no videos, or one is missing from the store.
  """
  by_query: dict[str, dict[int, list[records.Scored]]] = collections.defaultdict(dict)
  for row in records.read(scores, records.Scored):
    by_query[row.query].setdefault(row.index, []).append(row)
  rows = [
    row
    for found in by_query.values()
    for row in found.get(min(found) if index is None else index, ())
  ]
  if not rows:
    raise errors.UserError(f"{scores}: no video was scored")
  link = stores.Store(store)
  link.fetch(row.video_id for row in rows)
  finished = link.local
  videos = {}
  for row in rows:
    video = finished.find_video(row.video_id)
    if video is None:
      raise errors.UserError(f"{store}: video {row.video_id} is missing or damaged")
    videos[row.query, row.seed] = finished.root / video.path
  return videos


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  target.unlink(missing_ok=True)
  try:
    os.link(source, target)
  except OSError:  # another file system
    shutil.copyfile(source, target)
