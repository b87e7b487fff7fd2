"""What both nodes share: inputs, outputs and the report.

They have no `IS_CHANGED`: the same inputs give the same prompt, which ComfyUI reuses.
"""

import re
from collections.abc import Mapping
from typing import Any

_MAX_SEED = 2**32 - 1  # larger ones are those of further attempts


class Node:
  """The outputs of a node, and how ComfyUI calls it."""

  CATEGORY = "VPO"
  FUNCTION = "optimize"
  RETURN_TYPES = ("STRING", "STRING", "STRING")
  RETURN_NAMES = ("prompt", "report", "negative_prompt")
  OUTPUT_TOOLTIPS = (
    "The prompt for the video model.",
    "What became of quoted text, tags and the words to keep, and the prompt's length.",
    "What the query excludes with --no, if the target takes a negative prompt.",
  )


def inputs(**source: Any) -> dict[str, Any]:
  """A node's `INPUT_TYPES`.

  Args:
    source: the inputs that say where the model is.
  """
  return {
    "required": {
      "query": (
        "STRING",
        {"multiline": True, "tooltip": "What to show, in any words."},
      ),
      **source,
      "target": (
        "STRING",
        {"default": "", "tooltip": "The video model, such as cogvideox-5b; or empty."},
      ),
      "seed": (
        "INT",
        {"default": 0, "min": 0, "max": _MAX_SEED, "control_after_generate": True},
      ),
      "temperature": (
        "FLOAT",
        {
          "default": 0.7,
          "min": 0.0,
          "max": 2.0,
          "step": 0.05,
          "tooltip": "0 is the most likely prompt.",
        },
      ),
      "keep": (
        "STRING",
        {
          "default": "",
          "multiline": True,
          "tooltip": "Words that the prompt must contain, such as a trigger word;"
          " separated by commas or line ends.",
        },
      ),
      "best_of": (
        "INT",
        {
          "default": 1,
          "min": 1,
          "max": 64,
          "tooltip": "Samples this many prompts and takes the best; more than 1 needs"
          " a predictor.",
        },
      ),
    }
  }


def words(keep: str) -> list[str]:
  """The words of the input `keep`."""
  return [word.strip() for word in re.split(r"[,\r\n]", keep) if word.strip()]


def report(spans: Mapping[str, str], tokens: int | None, budget: str | None) -> str:
  """The report: a line for each protected span, then one on the target's limit.

  Args:
    spans: "kept", "repaired" or "lost" for each span.
    tokens: the target's tokens of the prompt; None without a target.
    budget: "kept" or "shortened"; None or "" without a target.
  """
  lines = [f"{text}: {outcome}" for text, outcome in spans.items()]
  if budget:
    lines.append(f"length: {tokens} tokens, {budget}")
  return "\n".join(lines) or "no protected spans"
