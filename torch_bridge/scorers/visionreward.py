"""VisionReward-Video: yes/no questions to a CogVLM2 model with remote code.

It wants transformers 4.42 and torch 2.1, so it runs in an interpreter of its own
(`--config.scorer.python`). Question and weight files come with it.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from torch_bridge import questions
from torch_bridge.renderers import base as renderers_base
from torch_bridge.scorers import base

_MAX_FRAMES = 24  # the model's own
_TEMPLATE = "chat"
_PAD = 128002  # where the tokenizer names no pad token; Llama 3's reserved token


class VisionRewardScorer:
  """Decodes a video once, asks its questions in batches, one new token each."""

  name = "visionreward"

  def __init__(
    self, model: Any, tokenizer: Any, asked: questions.Questions, spec: dict
  ):
    self.questions = asked
    self.revision = spec.get("revision") or str(spec["model"])
    self._model = model
    self._tokenizer = tokenizer
    self._batch = spec.get("options", {}).get("questions_at_once") or 16
    self._yes = tokenizer.encode("yes", add_special_tokens=False)[0]

  def score(
    self,
    frames_THWC: np.ndarray,
    fps: float,
    text: str,
    beat: Callable[[], None],
  ) -> base.Verdict:
    chosen = frames_THWC[chat_frames(len(frames_THWC), fps)]
    video_CTHW = torch.from_numpy(np.ascontiguousarray(chosen)).permute(3, 0, 1, 2)
    # The release reads its questions with their newlines; the model was asked so.
    asked = [questions.fill(question, text) + "\n" for question in self.questions.texts]
    yes: list[bool] = []
    p_yes: list[float] = []
    for start in range(0, len(asked), self._batch):
      some_yes, some_p = self._ask(video_CTHW, asked[start : start + self._batch])
      yes += some_yes
      p_yes += some_p
      beat()
    return base.Verdict(p_yes, yes)

  def _ask(
    self, video_CTHW: torch.Tensor, asked: Sequence[str]
  ) -> tuple[list[bool], list[float]]:
    """Whether the first new token is `yes`, and its probability."""
    inputs = [
      self._model.build_conversation_input_ids(
        tokenizer=self._tokenizer,
        query=question,
        images=[video_CTHW],
        history=[],
        template_version=_TEMPLATE,
      )
      for question in asked
    ]
    pad = self._tokenizer.pad_token_id
    pad = _PAD if pad is None else pad
    device, dtype = self._model.device, self._model.dtype
    batch: dict[str, Any] = {
      "input_ids": _left_padded([row["input_ids"] for row in inputs], pad),
      "token_type_ids": _left_padded([row["token_type_ids"] for row in inputs], 0),
      "attention_mask": _left_padded([row["attention_mask"] for row in inputs], 0),
    }
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    batch["images"] = [[row["images"][0].to(device).to(dtype)] for row in inputs]
    with torch.no_grad():
      output = self._model.generate(
        **batch,
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=pad,
        output_scores=True,
        return_dict_in_generate=True,
      )
    first = output.sequences[:, -1]
    chances = output.scores[0].float().softmax(dim=-1)[:, self._yes]
    said = [self._tokenizer.decode([token]).strip() for token in first.tolist()]
    return [word == "yes" for word in said], chances.tolist()


def chat_frames(count: int, fps: float) -> list[int]:
  """For each whole second of the video, the frame nearest to it; at most 24.

  49 frames at 8 per second give 7.
  """
  times = [index / fps for index in range(count)]
  seconds = range(min(round(times[-1]) + 1, _MAX_FRAMES))
  return [min(range(count), key=lambda i: abs(times[i] - second)) for second in seconds]


def _left_padded(rows: Sequence[torch.Tensor], pad: int) -> torch.Tensor:
  """Rows of different lengths as one tensor [rows, longest]; the ends are aligned."""
  longest = max(len(row) for row in rows)
  return torch.stack(
    [torch.nn.functional.pad(row, (longest - len(row), 0), value=pad) for row in rows]
  )


def check(spec: dict[str, Any]) -> None:
  """Looks at the settings, before anything is rendered or loaded.

  Raises:
    ModelError: the model's code may not be run, or its questions are not named.
  """
  name, options = spec["model"], spec.get("options", {})
  if not options.get("trust_remote_code"):
    raise renderers_base.ModelError(
      f"{name} runs code that comes with the model; read it, and allow it with"
      " --config.scorer.options.trust_remote_code=True"
    )
  if not pathlib.Path(name).is_dir() and not spec.get("revision"):
    raise renderers_base.ModelError(
      f"{name}: pin the revision whose code you trust with --config.scorer.revision"
    )
  if not spec.get("questions"):
    raise renderers_base.ModelError(
      f"{name}: name its question file with --config.scorer.questions, and its weights"
      " with --config.scorer.weights"
    )


def make(spec: dict[str, Any]) -> VisionRewardScorer:
  """Loads the model.

  Raises:
    ModelError: it cannot be loaded, or its code may not be run.
  """
  check(spec)
  name, revision = spec["model"], spec.get("revision") or None
  asked = base.load_questions(spec)
  auto: Any = importlib.import_module("transformers")
  kind = {"trust_remote_code": True, "revision": revision or "main"}
  try:
    tokenizer = auto.AutoTokenizer.from_pretrained(name, **kind)
    model = auto.AutoModelForCausalLM.from_pretrained(
      name, torch_dtype=_dtype(), **kind
    )
  except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
    line = " ".join(str(error).split())
    raise renderers_base.ModelError(
      f"{name}: cannot be loaded with transformers {transformers.__version__}"
      f" (VisionReward wants 4.42): {line}"
    ) from error
  device = "cuda" if torch.cuda.is_available() else "cpu"
  return VisionRewardScorer(model.eval().to(device), tokenizer, asked, spec)


def _dtype() -> torch.dtype:
  """bf16 where the GPU has it (compute capability 8 and more), else fp16."""
  if not torch.cuda.is_available():
    return torch.float32
  return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
