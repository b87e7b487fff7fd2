"""The worker's task `render`: makes, checks, encodes and publishes videos."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch_bridge import contract, video
from torch_bridge.renderers import base


class Rendering:
  """Renders requests with one renderer into one store."""

  stage = "render"
  row_type = contract.RenderRequest

  def __init__(self, store: contract.Store, renderer: base.Renderer):
    self._store = store
    self._renderer = renderer

  @property
  def streams(self) -> bool:
    """Whether the renderer is given whole shards, and yields clips one by one."""
    return getattr(self._renderer, "streams", False)

  def is_done(self, request: contract.RenderRequest) -> bool:
    return self._store.find_video(request.id) is not None

  def can_share(self, one: contract.RenderRequest, two: contract.RenderRequest) -> bool:
    """Whether two requests can be rendered in one batch."""
    batches = getattr(self._renderer, "batches", True)
    return batches and one.settings == two.settings

  def work(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[..., None]
  ) -> Iterator[tuple[contract.RenderRequest, contract.Failure | None]]:
    """Renders one batch and publishes its videos, each as soon as it is made.

    Yields: each settled request, with its failure if it has no video. A bad video is
      not tried again: the same seed would give the same frames.

    Raises:
      OutOfMemory: a smaller batch may fit.
      RuntimeError: requests that were not yielded may be tried again.
    """
    temporary = ""
    for request, clip, work_s in self._timed(requests, heartbeat):
      failure = None
      try:
        if isinstance(clip, base.Clip):
          self._publish(request, clip, work_s)
        elif clip.final:
          failure = contract.Failure(request.id, self.stage, clip.reason, 1)
        else:
          temporary = clip.reason
          continue
      except video.BadVideo as error:
        failure = contract.Failure(request.id, self.stage, str(error), 1)
      heartbeat()
      yield request, failure
    if temporary:
      raise RuntimeError(temporary)

  def _timed(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[..., None]
  ) -> Iterator[tuple[contract.RenderRequest, base.Clip | base.Failed, float]]:
    """Each request with its clip and the seconds that the renderer took for it."""
    began = time.monotonic()
    clips = self._renderer.render(requests, heartbeat)
    shared_s = (time.monotonic() - began) / len(requests)
    rest = iter(clips)
    for request in requests:
      began = time.monotonic()
      clip = next(rest, None)
      if clip is None:
        raise RuntimeError("the renderer gave fewer clips than there were requests")
      yield request, clip, shared_s + time.monotonic() - began
    if next(rest, None) is not None:
      raise RuntimeError("the renderer gave more clips than there were requests")

  def _publish(
    self, request: contract.RenderRequest, clip: base.Clip, work_s: float
  ) -> None:
    settings = request.settings
    path = self._store.video(request.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{contract.TEMPORARY}{uuid.uuid4().hex}.mp4")
    try:
      if isinstance(clip.frames, bytes):
        temporary.write_bytes(clip.frames)
        frames, fps = video.read(temporary)
        video.check_frames(frames, settings["num_frames"])
        _check_as_asked(frames.shape, fps, settings)
      else:
        frames = video.check_frames(clip.frames, settings["num_frames"])
        fps = settings["fps"]
        video.write(temporary, frames, fps, settings["encoding"])
      contract.sync(temporary)
      row = contract.RenderedVideo(
        id=request.id,
        path=str(path.relative_to(self._store.root)),
        sha256=contract.sha256(temporary),
        frames=len(frames),
        fps=fps,
        width=frames.shape[2],
        height=frames.shape[1],
        seconds=round(len(frames) / fps, 3),
        lost_tokens=clip.lost_tokens,
        settings=settings,
        made_by=self._renderer.made_by,
        work_seconds=round(work_s, 3),
      )
      temporary.replace(path)
    finally:
      temporary.unlink(missing_ok=True)
    contract.publish_row(self._store.rendered(request.id), row)


def _check_as_asked(
  shape_THWC: Sequence[int], fps: float, settings: dict[str, Any]
) -> None:
  """Checks a file that another system encoded, whose settings may have been ignored.

  Raises:
    BadVideo: its size or its frame rate is not that of the settings.
  """
  found = {"width": shape_THWC[2], "height": shape_THWC[1], "fps": fps}
  for name, value in found.items():
    asked = settings.get(name, value)
    if abs(value - asked) > 0.5:
      raise video.BadVideo(f"the file has {name} {value:g} instead of {asked:g}")
