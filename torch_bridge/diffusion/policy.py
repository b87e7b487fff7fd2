"""The transformer that is trained, and its reference."""

from __future__ import annotations

import contextlib
import copy
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import peft
import torch

from torch_bridge.diffusion import families
from torch_bridge.renderers import base

LORA_FILE = "pytorch_lora_weights.safetensors"  # as diffusers names it
_ADAPTER = "default"


class Policy:
  """A transformer with trainable parameters.

  Attributes:
    module: the transformer.
    config: the transformer's.
    scheduler: of the model, with the settings' `scheduler_args`.
    dtype: of the inputs that the transformer is given.
    lora: whether adapters are trained, or else all weights.
  """

  def __init__(self, job: dict[str, Any], device: torch.device):
    """Loads the transformer and adds adapters to it.

    Args:
      job: the job file of training.

    Raises:
      ModelError: it cannot be loaded, or a LoRA target does not exist.
    """
    training, model = job["training"], job["model"]
    self.lora = training["method"] == "lora"
    self._family = families.find(job["settings"]["pipeline"])
    self.dtype = getattr(torch, training["precision"])
    revision = job.get("options", {}).get("revision") or None
    # All weights in float32 if they are trained: steps are smaller than what
    # bfloat16 resolves.
    stored = self.dtype if self.lora and not training["shard"] else torch.float32
    made: Any = getattr(diffusers, self._family.transformer)
    scheduler: Any = getattr(diffusers, self._family.scheduler)
    try:
      self.module = made.from_pretrained(
        model, subfolder="transformer", revision=revision, torch_dtype=stored
      )
      # With the changes that the renderer makes, such as the shift of a flow model.
      self.scheduler = scheduler.from_pretrained(
        model,
        subfolder="scheduler",
        revision=revision,
        **job["settings"].get("scheduler_args", {}),
      )
    except (OSError, ValueError, KeyError) as error:
      line = " ".join(str(error).split())
      raise base.ModelError(f"{model}: cannot be loaded: {line}") from error
    self.config = self.module.config
    self.module.requires_grad_(not self.lora)
    self.module.eval()  # no dropout, so that policy and reference differ by weights
    self._reference = None if self.lora else copy.deepcopy(self.module).to(device)
    if self._reference:
      self._reference.requires_grad_(False)
    if self.lora:
      self._add_lora(training)
    if training["gradient_checkpointing"]:
      self.module.enable_gradient_checkpointing()
    self.module.to(device)

  def _add_lora(self, training: dict[str, Any]) -> None:
    targets = list(training["targets"])
    _check_targets(self.module, targets)
    # Adapters start the same in every process.
    torch.manual_seed(training["seed"])
    self.module.add_adapter(
      peft.LoraConfig(
        r=training["rank"], lora_alpha=training["alpha"], target_modules=targets
      ),
      adapter_name=_ADAPTER,
    )
    for parameter in self.trainable():
      parameter.data = parameter.data.float()

  def trainable(self) -> list[torch.nn.Parameter]:
    return [one for one in self.module.parameters() if one.requires_grad]

  @contextlib.contextmanager
  def reference(self) -> Iterator[Any]:
    """The frozen reference: the module without its adapters, or a copy of it."""
    with torch.no_grad():
      if self._reference is not None:
        yield self._reference
        return
      self.module.disable_adapters()
      try:
        yield self.module
      finally:
        self.module.enable_adapters()

  def save(
    self, folder: pathlib.Path, weights: dict[str, torch.Tensor], pipeline: str
  ) -> None:
    """Writes what a pipeline reads.

    For a LoRA it is what `pipe.load_lora_weights` reads, with its alpha; otherwise the
    folder `transformer` of a model directory.

    Args:
      weights: of the trained parameters by name, complete and on the CPU.
      pipeline: the pipeline's class in diffusers.
    """
    if not self.lora:
      with torch.device("meta"):
        saved = type(self.module).from_config(self.config)
      state = {name: value.to(self.dtype) for name, value in weights.items()}
      saved.load_state_dict(state, strict=False, assign=True)
      saved.save_pretrained(folder / "transformer")
      return
    layers = peft.get_peft_model_state_dict(
      self.module, state_dict=weights, adapter_name=_ADAPTER
    )
    made: Any = getattr(diffusers, pipeline)
    config = self.module.peft_config[_ADAPTER].to_dict()
    made.save_lora_weights(
      folder,
      transformer_lora_layers=layers,
      transformer_lora_adapter_metadata={
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.items()
      },
    )
    _sort_header(folder / LORA_FILE)


def _sort_header(path: pathlib.Path) -> None:
  """Sorts the keys in a safetensors file's header.

  safetensors writes the metadata in an order that changes with each process. The same
  weights should be the same file, because its hash identifies videos.
  """
  content = path.read_bytes()
  size = int.from_bytes(content[:8], "little")
  header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
  header += b" " * (-len(header) % 8)  # the tensors stay aligned
  path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


def _check_targets(module: torch.nn.Module, targets: Sequence[str]) -> None:
  """Checks that each target is the end of the name of a linear layer.

  Raises:
    ModelError: it is not.
  """
  names = [
    name for name, one in module.named_modules() if isinstance(one, torch.nn.Linear)
  ]
  missing = [
    target
    for target in targets
    if not any(name == target or name.endswith(f".{target}") for name in names)
  ]
  if missing or not targets:
    ends = sorted({".".join(_last_names(name)) for name in names})
    raise base.ModelError(
      f"LoRA targets {', '.join(missing) or '()'} do not exist; this model has"
      f" {', '.join(ends[:20])}"
    )


def _last_names(name: str) -> list[str]:
  """The end of a layer's name from its last part that is not a number."""
  parts = name.split(".")
  return parts[-2:] if parts[-1].isdigit() else parts[-1:]
