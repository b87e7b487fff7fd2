"""VisionReward-Video: yes/no questions to a CogVLM2 model with remote code.

It requires transformers 4.42 and torch 2.1, so it needs its own environment
(`--config.scorer.python`). The question and weight files are part of its release.
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

_MAX_FRAMES = 24  # the model's limit
_TEMPLATE = "chat"
_PAD = 128002  # a reserved token of Llama 3, for a tokenizer without a pad token


class VisionRewardScorer:
  """Asks the questions about one video in batches, with one new token each."""

  name = "visionreward"

  def __init__(
    self, model: Any, tokenizer: Any, loaded: questions.Questions, spec: dict
  ):
    self.questions = loaded
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
    heartbeat: Callable[[], None],
  ) -> base.Verdict:
    chosen = frames_THWC[chat_frames(len(frames_THWC), fps)]
    video_CTHW = torch.from_numpy(np.ascontiguousarray(chosen)).permute(3, 0, 1, 2)
    # The release does not strip the newlines of its question file.
    texts = [questions.fill(question, text) + "\n" for question in self.questions.texts]
    yes: list[bool] = []
    p_yes: list[float] = []
    for start in range(0, len(texts), self._batch):
      batch = self._ask(video_CTHW, texts[start : start + self._batch])
      yes += batch[0]
      p_yes += batch[1]
      heartbeat()
    return base.Verdict(p_yes, yes)

  def _ask(
    self, video_CTHW: torch.Tensor, texts: Sequence[str]
  ) -> tuple[list[bool], list[float]]:
    """Whether the first new token is `yes`, and the probability of `yes`."""
    inputs = [
      self._model.build_conversation_input_ids(
        tokenizer=self._tokenizer,
        query=question,
        images=[video_CTHW],
        history=[],
        template_version=_TEMPLATE,
      )
      for question in texts
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
    p_yes = output.scores[0].float().softmax(dim=-1)[:, self._yes]
    words = [self._tokenizer.decode([token]).strip() for token in first.tolist()]
    return [word == "yes" for word in words], p_yes.tolist()


def chat_frames(count: int, fps: float) -> list[int]:
  """The index of the frame nearest to each whole second; at most 24.

  This is the "chat" strategy of the release. 49 frames at 8 per second give 7.
  """
  times = [index / fps for index in range(count)]
  seconds = range(min(round(times[-1]) + 1, _MAX_FRAMES))
  return [min(range(count), key=lambda i: abs(times[i] - second)) for second in seconds]


def _left_padded(rows: Sequence[torch.Tensor], pad: int) -> torch.Tensor:
  """Rows of different lengths as one tensor [rows, longest], padded on the left."""
  longest = max(len(row) for row in rows)
  return torch.stack(
    [torch.nn.functional.pad(row, (longest - len(row), 0), value=pad) for row in rows]
  )


def check(spec: dict[str, Any]) -> None:
  """Checks the settings before anything is rendered or loaded.

  Raises:
    ModelError: the model's code is not trusted, or its questions are not named.
  """
  name, options = spec["model"], spec.get("options", {})
  if not options.get("trust_remote_code"):
    raise renderers_base.ModelError(
      f"{name} runs code that comes with the model; read the code, then allow it"
      " with --config.scorer.options.trust_remote_code=True"
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
    ModelError: it cannot be loaded, or `check` fails.
  """
  check(spec)
  name, revision = spec["model"], spec.get("revision") or None
  loaded = base.load_questions(spec)
  auto: Any = importlib.import_module("transformers")
  arguments = {"trust_remote_code": True, "revision": revision or "main"}
  try:
    tokenizer = auto.AutoTokenizer.from_pretrained(name, **arguments)
    model = auto.AutoModelForCausalLM.from_pretrained(
      name, torch_dtype=_dtype(), **arguments
    )
  except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
    line = " ".join(str(error).split())
    raise renderers_base.ModelError(
      f"{name}: cannot be loaded with transformers {transformers.__version__}"
      f" (VisionReward requires 4.42): {line}"
    ) from error
  device = "cuda" if torch.cuda.is_available() else "cpu"
  return VisionRewardScorer(model.eval().to(device), tokenizer, loaded, spec)


def _dtype() -> torch.dtype:
  """bf16 on GPUs of compute capability 8 and above, else fp16; float32 on a CPU."""
  if not torch.cuda.is_available():
    return torch.float32
  return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
