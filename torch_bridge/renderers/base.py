"""The interface of a renderer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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


@runtime_checkable
class Renderer(Protocol):
  """Renders videos; loaded once per worker.

  A renderer whose attribute `batches` is False is given one request at a time.
  """

  made_by: dict[str, Any]  # name, versions and device; stored with every video

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> list[Clip]:
    """One clip per request, in order; all requests have the same settings.

    Args:
      heartbeat: call it as work progresses; a silent worker is taken to hang.

    Raises:
      OutOfMemory: the batch is too large.
    """
    ...
