"""The bridge's finished work: files for its workers, with a copy in a bucket.

The workers read and write a local folder. If the store is in a bucket, that folder is
its scratch folder: what the bucket has is fetched before the workers start, and what a
worker has finished is stored while they run, a video before its row.
"""

import concurrent.futures
import pathlib
from collections.abc import Iterable

import safetensors
from etils import epath

from torch_bridge import contract
from vpo_jax import buckets, files

_AT_ONCE = 4  # uploads


def is_whole(path: pathlib.Path) -> bool:
  """Whether a safetensors file exists in its full length."""
  try:
    with safetensors.safe_open(path, framework="numpy"):
      return True
  except (OSError, safetensors.SafetensorError):
    return False


class Store:
  """A store of finished work; without a bucket only `local` matters.

  Attributes:
    local: the files that the workers use.
  """

  def __init__(self, path: epath.PathLike):
    """Opens a store; does not create it.

    Raises:
      UserError: its bucket cannot be read.
    """
    buckets.check(path)
    self._path = epath.Path(path)
    self._in_bucket = files.is_bucket(path)
    self.local = contract.Store(pathlib.Path(buckets.scratch(path)))
    self._pool = concurrent.futures.ThreadPoolExecutor(_AT_ONCE)
    self._uploads: list[concurrent.futures.Future] = []

  def fetch(self, videos: Iterable[str], answers: Iterable[str] = ()) -> None:
    """Makes the bucket and the local folder have the same of these ids.

    Raises:
      UserError: the object store refuses a file.
    """
    if not self._in_bucket:
      return
    there, here = buckets.names(self._path), buckets.local_names(self._path)
    first, then = set(), set()
    for video_id in videos:
      first.add(self._name(self.local.video(video_id)))
      then.add(self._name(self.local.rendered(video_id)))
    then |= {self._name(self.local.answers(answers_id)) for answers_id in answers}
    for wanted in (first, then):  # a row counts only with its video
      buckets.fetch_all(self._path, (wanted & there) - here)
      buckets.store_all(self._path, (wanted & here) - there)

  def keep(self, task: str, request_id: str) -> None:
    """Begins to store a finished result; `wait` waits for it.

    Args:
      task: "render", "score", or "encode", whose results stay local.
    """
    if self._in_bucket and task != "encode":
      paths = [self.local.answers(request_id)]
      if task == "render":
        paths = [self.local.video(request_id), self.local.rendered(request_id)]
      names = [self._name(path) for path in paths]
      self._uploads.append(self._pool.submit(self._upload, names))

  def wait(self) -> None:
    """Waits until everything that is to be kept is stored.

    Raises:
      UserError: the object store refuses a file.
    """
    uploads, self._uploads = self._uploads, []
    for upload in uploads:
      upload.result()

  def _upload(self, names: list[str]) -> None:
    for name in names:
      buckets.store(self._path / name)

  def _name(self, path: pathlib.Path) -> str:
    return str(path.relative_to(self.local.root))
