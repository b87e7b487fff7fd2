"""The report's videos: links into the store, or copies where it is on another disk."""

import os
import pathlib
import shutil
from collections.abc import Iterable

from etils import epath

from vpo_jax import buckets
from vpo_jax.feedback import store as stores


def link(video_ids: Iterable[str], store: stores.Store, folder: epath.Path) -> set[str]:
  """Puts videos of the store into a folder, named by their ids.

  Returns: the ids that the store does not have.

  Raises:
    UserError: the object store refuses a file.
  """
  wanted = list(dict.fromkeys(video_ids))
  store.fetch(wanted)
  local = pathlib.Path(buckets.scratch(folder))
  local.mkdir(parents=True, exist_ok=True)
  missing = set()
  for video_id in wanted:
    try:
      _link(store.local.video(video_id).resolve(), local / f"{video_id}.mp4")
    except FileNotFoundError:
      missing.add(video_id)
  return missing


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  target.unlink(missing_ok=True)
  try:
    os.link(source, target)
  except FileNotFoundError:
    raise
  except OSError:  # another disk, or a file system without links
    shutil.copyfile(source, target)
