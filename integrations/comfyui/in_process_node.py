"""The node that loads the model into ComfyUI's process. It needs vpo_jax."""

import functools
import os
from typing import Any

from . import node


class OptimizeInProcess(node.Node):
  """Runs the model with JAX, and keeps it for the next execution."""

  DESCRIPTION = "Rewrites a query into a prompt with a VPO model in this process."

  @classmethod
  def INPUT_TYPES(cls) -> dict[str, Any]:
    tooltip = "Directory of the model, or its hub id."
    predictor = "Folder of launch/train_predictor.py, for best_of; or empty."
    return node.inputs(
      model=("STRING", {"default": "", "tooltip": tooltip}),
      predictor=("STRING", {"default": "", "tooltip": predictor}),
    )

  def optimize(
    self,
    query: str,
    model: str,
    predictor: str,
    target: str,
    seed: int,
    temperature: float,
    keep: str,
    best_of: int,
  ) -> tuple[str, str, str]:
    """The prompt, the report and the negative prompt.

    Raises:
      RuntimeError: an input is empty, vpo_jax is not installed, or the guard rejects
        every attempt.
      vpo_jax.errors.UserError: an input is not valid.
    """
    for name, value in (("query", query), ("model", model)):
      if not value.strip():
        raise RuntimeError(f"{name} is empty")
    found = _load(model.strip(), predictor.strip()).optimize(
      query,
      target=target.strip(),
      seed=seed,
      temperature=temperature,
      keep=node.words(keep),
      best_of=best_of,
    )
    if found.problem:
      raise RuntimeError(f"the prompt {found.problem}; choose another seed")
    report = node.report(found.spans, found.tokens, found.budget)
    return found.prompt, report, found.negative_prompt


@functools.lru_cache(maxsize=1)  # a second model would double the memory
def _load(model: str, predictor: str) -> Any:
  # JAX would otherwise reserve most of the GPU's memory, which the video model needs.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  try:
    from vpo_jax import rewriter
  except ImportError as error:
    raise RuntimeError(
      f"{error.name} is not installed: install vpo-jax into ComfyUI's Python, or use"
      " the node that asks a server"
    ) from None
  return rewriter.Rewriter(model, predictor=predictor)
