"""What a renderer is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch_bridge import contract

if TYPE_CHECKING:
  import numpy as np


class OutOfMemory(RuntimeError):
  """The batch does not fit; the worker halves it."""


class ModelError(RuntimeError):
  """The model cannot be loaded, or serves no request at all (a refused key).

  Its text is one line for the user. Raised at any time, it ends the run at once.
  """


@dataclasses.dataclass(frozen=True)
class Clip:
  """What a renderer made of one request.

  Attributes:
    frames: uint8, or float in 0 to 1, [T, H, W, 3]; or the content of
      an mp4 file.
    lost_tokens: tokens of the prompt beyond the text encoder's limit.
  """

  frames: np.ndarray | bytes
  lost_tokens: int = 0


@runtime_checkable
class Renderer(Protocol):
  """Makes videos; loaded once a worker.

  A renderer whose attribute `batches` is False is given one request at a time.
  """

  made_by: dict[str, Any]  # name, versions, device: kept with every video

  def render(
    self, requests: Sequence[contract.RenderRequest], beat: Callable[[], None]
  ) -> list[Clip]:
    """One clip a request, in order; all requests have the same settings.

    Args:
      beat: to be called while the work gets on; silence is taken for a hang.

    Raises:
      OutOfMemory: the batch is too large.
    """
    ...
