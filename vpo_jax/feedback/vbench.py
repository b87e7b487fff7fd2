"""Videos under the names that VBench expects: `{query}-{0..4}.mp4`.

VBench expects one folder per model. It looks a video up by the text of VBench's own
prompt, even if the video was rendered from a rewritten prompt. Elsewhere a video is
named by its id. A name made from a text has no separators, control characters or
leading dots, and is short enough for a file system.
"""

import collections
import os
import pathlib
import re
import shutil

from etils import epath

from vpo_jax import errors, files, records
from vpo_jax.feedback import store as stores

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]+")
_LONGEST = 200  # bytes of the text; file systems allow 255 for the whole name


def name(query: str, number: int) -> str:
  """The file name of one of a query's videos.

  A safe text is used unchanged, like VBench's own prompts. A text that had to be
  changed also gets a hash, so that two texts never share a name.
  """
  plain = _UNSAFE.sub("_", query).lstrip(".").encode(errors="replace")
  safe = plain[:_LONGEST].decode(errors="ignore")
  if safe != query or not safe:
    safe = f"{safe.strip()}-{records.row_id(query)}"
  return f"{safe}-{number}.mp4"


def lay_out(
  scores: epath.PathLike, store: epath.PathLike, out: epath.PathLike
) -> dict[str, int]:
  """Links the scored videos of each query's first candidate into the folder `out`.

  Args:
    scores: scores.jsonl of the stage score_videos, run with VBench's prompts as queries
      and `videos_per_prompt=5`.
    store: the bridge's store.
    out: one folder per model; created if it does not exist.

  Returns: the numbers of queries and videos.

  Raises:
    UserError: there are no videos, one is missing from the store, or `out` is in a
      bucket.
  """
  first: dict[str, list[records.Scored]] = collections.defaultdict(list)
  for row in records.read(scores, records.Scored):
    kept = first[row.query]
    if kept and row.index < kept[0].index:
      kept.clear()
    if not kept or row.index == kept[0].index:
      kept.append(row)
  if not first:
    raise errors.UserError(f"{scores}: no video was scored")
  if files.is_bucket(out):
    raise errors.UserError(f"{out}: VBench needs a local folder")
  link = stores.Store(store)
  link.fetch(row.video_id for rows in first.values() for row in rows)
  finished, folder = link.local, pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  for query, rows in first.items():
    for row in rows:
      video = finished.find_video(row.video_id)
      if video is None:
        raise errors.UserError(f"{store}: video {row.video_id} is missing or damaged")
      _link(finished.root / video.path, folder / name(query, row.seed))
  return {"queries": len(first), "videos": sum(map(len, first.values()))}


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  target.unlink(missing_ok=True)
  try:
    os.link(source, target)
  except OSError:  # another file system
    shutil.copyfile(source, target)
