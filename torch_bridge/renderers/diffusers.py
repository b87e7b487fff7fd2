"""Renders with a pipeline of diffusers, from a model directory or a hub id."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import numpy as np
import torch
import transformers

from torch_bridge import contract
from torch_bridge.renderers import base

# Settings that are arguments of the pipeline's call.
_CALL = (
  "height",
  "width",
  "num_frames",
  "num_inference_steps",
  "guidance_scale",
)
_LORA = "lora"  # the adapter's name
# In the messages of out-of-memory errors that have no class of their own.
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")


class DiffusersRenderer:
  """CogVideoX, Wan, LTX, HunyuanVideo, Mochi, and pipelines with the same call."""

  def __init__(
    self,
    model: str,
    settings: dict[str, Any],
    options: dict[str, Any],
    lora: dict[str, Any],
  ):
    """Loads the pipeline.

    Args:
      model: model directory or hub id.
      settings: of the requests: `pipeline`, `dtype`, `scheduler`, `scheduler_args`, ...
      options: `device`, `offload` and `revision`.
      lora: `path` and `scale` of a LoRA on the model; the path may be "".

    Raises:
      ModelError: the pipeline or the LoRA cannot be loaded.
    """
    # The pipelines log every truncated prompt; here the lost tokens are counted.
    for library in (diffusers, transformers):
      library.utils.logging.set_verbosity_error()
      library.utils.logging.disable_progress_bar()
    self._device = options.get("device") or default_device()
    try:
      self._pipe = load(model, settings, options)
      if lora.get("path"):
        _add_lora(self._pipe, lora["path"], lora["scale"])
      _place(self._pipe, self._device, options)
      if settings.get("tiling"):  # changes frames: tile borders are blended
        self._pipe.vae.enable_tiling()
    except (OSError, ValueError, AttributeError, KeyError, ImportError) as error:
      line = " ".join(str(error).split())
      raise base.ModelError(
        f"{model}: cannot be loaded as a pipeline: {line}"
      ) from error
    self.made_by = {
      "renderer": "diffusers",
      "diffusers": diffusers.__version__,
      "torch": torch.__version__,
      "device": _device_name(self._device),
      "scheduler": type(self._pipe.scheduler).__name__,
    }

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> list[base.Clip]:
    settings = requests[0].settings

    def step_done(pipe: Any, step: int, time: Any, tensors: dict) -> dict:
      heartbeat()
      return tensors

    arguments = {name: settings[name] for name in _CALL} | settings.get("call", {})
    if settings.get("negative_prompt"):
      arguments["negative_prompt"] = [settings["negative_prompt"]] * len(requests)
    prompts = [base.text(request) for request in requests]
    # CPU generators: the noise of a GPU generator differs between devices.
    noise = [torch.Generator("cpu").manual_seed(r.seed) for r in requests]
    output: Any = None
    out_of_memory = ""
    try:
      output = self._pipe(
        prompt=prompts,
        generator=noise,
        output_type="np",
        callback_on_step_end=step_done,
        **arguments,
      )
    except (RuntimeError, MemoryError) as error:
      if not is_out_of_memory(error):
        raise
      out_of_memory = " ".join(str(error).split())[:300]
    if out_of_memory:
      # Outside the handler: the exception's traceback holds the tensors.
      free()
      raise base.OutOfMemory(out_of_memory)
    lost = self._lost_tokens(prompts, settings)
    return [
      base.Clip(np.asarray(frames), lost_tokens)
      for frames, lost_tokens in zip(output.frames, lost, strict=True)
    ]

  def _lost_tokens(self, prompts: list[str], settings: dict[str, Any]) -> list[int]:
    """How many tokens of each prompt the first text encoder does not see.

    HunyuanVideo puts the prompt into a template, whose beginning has room of its own.
    Its second encoder, a CLIP, sees 77 tokens of any prompt and is not counted.
    """
    limit = settings["text_tokens"]
    tokenizer = getattr(self._pipe, settings.get("tokenizer", "tokenizer"))
    if template := self._template(settings):
      beginning = template["template"].partition("{}")[0]
      prompts = [beginning + prompt for prompt in prompts]
      limit += template.get("crop_start") or len(tokenizer(beginning)["input_ids"])
    return [max(0, len(ids) - limit) for ids in tokenizer(prompts)["input_ids"]]

  def _template(self, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The template of the pipeline's call, if it has one."""
    named = settings.get("call", {}).get("prompt_template")
    accepted = inspect.signature(self._pipe.__call__).parameters
    return named or (
      accepted["prompt_template"].default if "prompt_template" in accepted else None
    )


def load(
  model: str, settings: dict[str, Any], options: dict[str, Any], **parts: Any
) -> Any:
  """The pipeline of a model.

  Args:
    parts: components to use instead of the model's, such as `transformer=None`.
  """
  pipeline = getattr(diffusers, settings["pipeline"])
  dtype = getattr(torch, settings["dtype"])
  arguments: dict[str, Any] = {"torch_dtype": dtype}
  if options.get("revision"):
    arguments["revision"] = options["revision"]
  if settings.get("vae_dtype"):
    # Some pipelines need a VAE of higher precision than the transformer.
    arguments["torch_dtype"] = {
      "default": dtype,
      "vae": getattr(torch, settings["vae_dtype"]),
    }
  with warnings.catch_warnings():
    # Newer versions call it `dtype`; older ones accept only this name.
    warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")
    pipe = pipeline.from_pretrained(model, **arguments, **parts)
  if settings.get("scheduler"):
    scheduler = getattr(diffusers, settings["scheduler"])
    pipe.scheduler = scheduler.from_config(
      pipe.scheduler.config, **settings.get("scheduler_args", {})
    )
  pipe.set_progress_bar_config(disable=True)
  return pipe


def _add_lora(pipe: Any, path: str, scale: float) -> None:
  """Adds a LoRA; it is not merged into the weights, where bfloat16 would round it.

  Raises:
    ModelError: it does not fit the model.
  """
  try:
    pipe.load_lora_weights(path, adapter_name=_LORA)
    pipe.set_adapters([_LORA], [scale])
  # LookupError: no layer of the file is in the model.
  except (OSError, ValueError, RuntimeError, LookupError) as error:
    line = " ".join(str(error).split())[:300]
    raise base.ModelError(f"{path}: cannot be loaded as a LoRA: {line}") from error


def _place(pipe: Any, device: str, options: dict[str, Any]) -> None:
  offload = options.get("offload", "none")
  if offload == "model":
    pipe.enable_model_cpu_offload(device=device)
  elif offload == "sequential":
    pipe.enable_sequential_cpu_offload(device=device)
  else:
    pipe.to(device)


def default_device() -> str:
  return "cuda" if torch.cuda.is_available() else "cpu"


def _device_name(device: str) -> str:
  if device.startswith("cuda"):
    return torch.cuda.get_device_name(device)
  return device


def is_out_of_memory(error: Exception) -> bool:
  # Only CUDA's allocator has an error class. The CPU's allocator, cuBLAS, cuDNN and
  # CUDA itself raise a RuntimeError; numpy raises a MemoryError.
  if isinstance(error, torch.OutOfMemoryError | MemoryError):
    return True
  message = str(error).lower()
  return any(words in message for words in _OUT_OF_MEMORY)


def free() -> None:
  gc.collect()
  if torch.cuda.is_available():
    torch.cuda.empty_cache()


def make(spec: dict[str, Any]) -> DiffusersRenderer:
  return DiffusersRenderer(
    spec["model"], spec["settings"], spec.get("options", {}), spec.get("lora", {})
  )
