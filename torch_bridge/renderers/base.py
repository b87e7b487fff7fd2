"""The interface of a renderer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch_bridge import contract

if TYPE_CHECKING:
  import numpy as np


class OutOfMemory(RuntimeError):
  """The batch does not fit in memory; the worker halves it."""


class ModelError(RuntimeError):
  """The model cannot be loaded, or cannot serve any request (such as a refused key).

  Raised at any time, it ends the run at once; the message is one line for the user.
  """


@dataclasses.dataclass(frozen=True)
class Clip:
  """A renderer's result for one request.

  Attributes:
    frames: [T, H, W, 3], uint8 or float from 0 to 1; or the bytes of an mp4 file.
    lost_tokens: tokens of the prompt beyond the text encoder's limit.
  """

  frames: np.ndarray | bytes
  lost_tokens: int = 0


def text(request: contract.RenderRequest) -> str:
  """The text that the model is given: the prompt and the preset's suffix.

  The suffix is a setting, so it is part of the video's identity and stored with it.
  """
  return request.prompt + request.settings.get("prompt_suffix", "")


@dataclasses.dataclass(frozen=True)
class Failed:
  """Yielded instead of a clip: this request failed, and the others continue.

  Attributes:
    final: another try would fail in the same way.
  """

  reason: str
  final: bool = True


@runtime_checkable
class Renderer(Protocol):
  """Renders videos; loaded once per worker.

  A renderer whose attribute `batches` is False is given one request at a time. One
  whose attribute `streams` is True is given all requests of a shard at once, whatever
  `renderer.batch` is; it should yield each clip as soon as it is made.
  """

  made_by: dict[str, Any]  # name, versions and device; stored with every video

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> Iterable[Clip | Failed]:
    """One clip per request, in order; all requests have the same settings.

    Clips that were yielded before an exception are kept.

    Args:
      heartbeat: call it as work progresses; a worker without heartbeats is killed.

    Raises:
      OutOfMemory: the batch is too large.
    """
    ...
