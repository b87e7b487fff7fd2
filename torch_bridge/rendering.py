"""The worker's task `render`: makes, checks, encodes and publishes videos."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from torch_bridge import contract, video
from torch_bridge.renderers import base


class Rendering:
  """Renders requests with one renderer into one store."""

  stage = "render"
  row_type = contract.RenderRequest

  def __init__(self, store: contract.Store, renderer: base.Renderer):
    self._store = store
    self._renderer = renderer

  def is_done(self, request: contract.RenderRequest) -> bool:
    return self._store.find_video(request.id) is not None

  def can_share(self, one: contract.RenderRequest, two: contract.RenderRequest) -> bool:
    """Whether two requests can be rendered in one batch."""
    batches = getattr(self._renderer, "batches", True)
    return batches and one.settings == two.settings

  def work(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[..., None]
  ) -> list[contract.Failure]:
    """Renders one batch and publishes its videos.

    Returns: a failure for each bad video. These are not tried again: the same seed
      would give the same frames.

    Raises:
      OutOfMemory: nothing was published; a smaller batch may fit.
    """
    began = time.monotonic()
    clips = self._renderer.render(requests, heartbeat)
    each_s = (time.monotonic() - began) / len(requests)
    failures = []
    for request, clip in zip(requests, clips, strict=True):
      try:
        self._publish(request, clip, each_s)
      except video.BadVideo as error:
        failures.append(contract.Failure(request.id, self.stage, str(error), 1))
      heartbeat()
    return failures

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
