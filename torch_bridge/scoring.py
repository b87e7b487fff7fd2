"""The worker's task `score`: decodes each video once and answers every question."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from torch_bridge import client, contract, video
from torch_bridge.scorers import base


class Scoring:
  """Scores the videos of one store with one scorer."""

  stage = "score"
  row_type = contract.ScoreRequest

  def __init__(self, store: contract.Store, scorer: base.Scorer):
    self._store = store
    self._scorer = scorer

  def is_done(self, request: contract.ScoreRequest) -> bool:
    return self._store.find_answers(request.id) is not None

  def can_share(self, one: contract.ScoreRequest, two: contract.ScoreRequest) -> bool:
    return False  # a scorer batches the questions of one video

  def work(
    self, requests: Sequence[contract.ScoreRequest], heartbeat: Callable[..., None]
  ) -> Iterator[tuple[contract.ScoreRequest, contract.Failure | None]]:
    """Scores videos and publishes the answers.

    Yields: each request, with its failure if its video is damaged or the scorer's
      server refuses it.
    """
    for request in requests:
      yield request, self._score(request, heartbeat)

  def _score(
    self, request: contract.ScoreRequest, heartbeat: Callable[..., None]
  ) -> contract.Failure | None:
    began = time.monotonic()
    found = self._store.find_video(request.video_id)
    if found is None:
      # Removing the row makes the supervisor render the video again.
      self._store.rendered(request.video_id).unlink(missing_ok=True)
      reason = f"video {request.video_id} is missing or does not match its hash"
      return contract.Failure(request.id, "video", reason, 1)
    frames, fps = video.read(self._store.root / found.path)
    try:
      verdict = self._scorer.score(frames, fps, request.text, heartbeat)
    except client.Refused as error:  # the same request would be refused again
      return contract.Failure(request.id, self.stage, str(error), 1)
    answers = contract.Answers(
      id=request.id,
      video_id=request.video_id,
      yes=verdict.answers(),
      p_yes=[round(p, 6) for p in verdict.p_yes],
      scalars=verdict.scalars,
      text_role=request.text_role,
      scorer=self._scorer.name,
      revision=self._scorer.revision,
      questions=self._scorer.questions.fingerprint,
      weights=self._scorer.questions.weights_fingerprint,
      work_seconds=round(time.monotonic() - began, 3),
    )
    contract.publish_row(self._store.answers(request.id), answers)
    return None
