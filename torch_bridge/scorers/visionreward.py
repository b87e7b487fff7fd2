"""VisionReward-Video: yes/no questions to a CogVLM2 model with remote code.

It requires transformers 4.42 and torch 2.1, so it needs its own environment
(`--config.scorer.python`). The question and weight files are part of its release.

One question is asked per call. CogVLM2-Video's code shifts position ids by left padding
and reads the first row's video only, so the answers of a batch may differ. Batches are
used only if they give the first video the same answers as single questions.
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
_YES = "yes"
# Largest difference of a probability between a batch and single questions; ours, to
# allow for the rounding of bf16.
_MAX_DIFFERENCE = 0.05


class VisionRewardScorer:
  """Asks the questions about one video, with one new token each."""

  name = "visionreward"

  def __init__(
    self, model: Any, tokenizer: Any, loaded: questions.Questions, spec: dict
  ):
    self.questions = loaded
    self.revision = spec.get("revision") or str(spec["model"])
    self._model = model
    self._tokenizer = tokenizer
    self._batch = spec.get("options", {}).get("questions_at_once") or 1
    self._batches_agree = False  # until they are compared on the first video
    self._yes = _yes_tokens(tokenizer)

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
    if self._batch == 1 or self._batches_agree:
      return self._ask_all(video_CTHW, texts, self._batch, heartbeat)
    verdict = self._ask_all(video_CTHW, texts, 1, heartbeat)
    batched = self._ask_all(video_CTHW, texts, self._batch, heartbeat)
    if difference := _difference(verdict, batched):
      print(
        f"warning: batches of {self._batch} questions answer differently from single"
        f" ones ({difference}); one question is asked at a time",
        flush=True,
      )
      self._batch = 1
    self._batches_agree = True
    return verdict

  def _ask_all(
    self,
    video_CTHW: torch.Tensor,
    texts: Sequence[str],
    size: int,
    heartbeat: Callable[[], None],
  ) -> base.Verdict:
    yes: list[bool] = []
    p_yes: list[float] = []
    for start in range(0, len(texts), size):
      batch = self._ask(video_CTHW, texts[start : start + size])
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
    p_yes = output.scores[0].float().softmax(dim=-1)[:, self._yes].sum(-1)
    words = [self._tokenizer.decode([token]) for token in first.tolist()]
    return [_is_yes(word) for word in words], p_yes.clamp(max=1.0).tolist()


def _is_yes(word: str) -> bool:
  """Whether an answer is yes; the model says `Yes`, ` yes` and `yes`."""
  return word.strip().lower() == _YES


def _yes_tokens(tokenizer: Any) -> list[int]:
  """All tokens that say yes, with or without a capital and a space before it."""
  forms = [space + word for space in ("", " ") for word in ("yes", "Yes", "YES")]
  found = [tokenizer.encode(form, add_special_tokens=False) for form in forms]
  tokens = {ids[0] for ids in found if len(ids) == 1}
  return sorted(token for token in tokens if _is_yes(tokenizer.decode([token])))


def _difference(alone: base.Verdict, batched: base.Verdict) -> str:
  """How two verdicts on the same questions differ; "" if they agree."""
  pairs = zip(alone.answers(), batched.answers(), strict=True)
  if changed := sum(one != two for one, two in pairs):
    return f"{changed} of {len(alone.p_yes)} answers change"
  pairs = zip(alone.p_yes, batched.p_yes, strict=True)
  largest = max(abs(one - two) for one, two in pairs)
  if largest > _MAX_DIFFERENCE:
    return f"a probability changes by {largest:.2f}"
  return ""


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
