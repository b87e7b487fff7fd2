"""Runs TRL on the same rows in a subprocess, one optimizer step per request.

The subprocess runs this module with its settings as JSON; see `main`. In full training
the weights are float32. With LoRA in bfloat16 the frozen weights are bfloat16, which is
what people use; PEFT keeps the adapters in float32.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal

from etils import epath

from vpo_jax import errors
from vpo_jax.runtime import allocator


@dataclasses.dataclass(frozen=True)
class Setting:
  """TRL's settings to compare: rows per device, and precision."""

  micro_batch: int
  precision: Literal["float32", "bfloat16"]

  @property
  def name(self) -> str:
    return f"{self.precision} x {self.micro_batch}"


class Program:
  """TRL as a program for `interleave`: a call is one optimizer step.

  Attributes:
    losses: of each call.
    memory: peak bytes of the process and the device.
    trainable_parameters: their number, after the first call.
    cpu_seconds: of each call.
  """

  def __init__(self, process: subprocess.Popen, batch: int, log: Any):
    self._process, self._batch, self._log = process, batch, log
    self.losses: list[float] = []
    self.memory: dict[str, int] = {}
    self.trainable_parameters = 0
    self.cpu_seconds: list[float] = []

  def __call__(self, step: int) -> int:
    del step  # TRL takes its batches in file order
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write("step\n")
      self._process.stdin.flush()
    line = self._process.stdout.readline()
    if not line:
      self._process.wait()
      self._log.seek(0)
      last = self._log.read().strip().splitlines()[-1:] or ["no message"]
      code = self._process.returncode
      raise errors.UserError(f"TRL ended with exit code {code}: {last[0]}")
    report = json.loads(line)
    self.losses.append(report["loss"])
    self.memory = report["memory"]
    self.trainable_parameters = report["trainable_parameters"]
    self.cpu_seconds.append(report["cpu_seconds"])
    return self._batch


@contextlib.contextmanager
def program(
  kind: Literal["sft", "dpo"],
  model: epath.Path,
  train: epath.Path,
  batch: int,
  calls: int,
  setting: Setting,
  peft: dict[str, Any] | None = None,
  **options: Any,
) -> Iterator[Program]:
  """Starts TRL; the process ends with the block.

  Args:
    model: a Hugging Face directory.
    train: file of rows from `rows.make`, taken in file order.
    batch: examples per step.
    calls: number of steps.
    peft: arguments of `peft.LoraConfig`; None trains all weights.
    options: overrides of TRL's config.

  Raises:
    UserError: from a call, if TRL exits early; quotes its last line.
  """
  job = {
    "kind": kind,
    "model": str(model),
    "train": str(train),
    "batch": batch,
    "steps": calls,
    **dataclasses.asdict(setting),
    "peft": peft,
    "options": options,
  }
  command = [sys.executable, "-m", "vpo_jax.bench.trl", json.dumps(job)]
  pipe, environment = subprocess.PIPE, allocator.user_environment()
  with (
    tempfile.TemporaryFile("w+") as log,
    subprocess.Popen(
      command, stdin=pipe, stdout=pipe, stderr=log, env=environment, text=True
    ) as process,
  ):
    try:
      yield Program(process, batch, log)
    finally:
      process.kill()


def main(job: dict[str, Any]) -> None:
  """Trains; reads a line before each step and writes its loss and memory as JSON."""
  reports = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # keep the output of libraries out of the reports
  import datasets  # from the extra `bench`  # pyright: ignore[reportMissingImports]
  import torch
  import transformers
  import trl

  from vpo_jax.bench import machine

  class StepOnRequest(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
      if not sys.stdin.readline():
        raise SystemExit("stdin was closed")
      self.start = time.process_time()

    def on_log(self, args, state, control, logs=None, model: Any = None, **_):
      if logs and "loss" in logs:
        memory = {"peak_rss_bytes": machine.peak_rss_bytes()}
        if torch.cuda.is_available():
          memory["peak_device_bytes"] = torch.cuda.max_memory_allocated()
        report = {
          "loss": logs["loss"],
          "memory": memory,
          "cpu_seconds": time.process_time() - self.start,
          "trainable_parameters": sum(
            p.numel() for p in model.parameters() if p.requires_grad
          ),
        }
        reports.write(json.dumps(report) + "\n")
        reports.flush()

  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(job["model"])
  if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
  bfloat16 = job["precision"] == "bfloat16"
  lora = None
  if job["peft"]:
    import peft

    lora = peft.LoraConfig(**job["peft"])
  name = job["kind"].upper()
  config, trainer = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
  with tempfile.TemporaryDirectory() as folder:
    options: dict[str, Any] = {
      "output_dir": folder,
      "per_device_train_batch_size": job["micro_batch"],
      "gradient_accumulation_steps": job["batch"] // job["micro_batch"],
      "max_steps": job["steps"],
      "train_sampling_strategy": "sequential",
      "bf16": bfloat16,
      "gradient_checkpointing": False,  # on by default; slower
      "max_length": 2048,
      "logging_steps": 1,
      "report_to": "none",
      "save_strategy": "no",
      "disable_tqdm": True,
      "use_cpu": not torch.cuda.is_available(),
      "dataloader_pin_memory": torch.cuda.is_available(),
      "model_init_kwargs": {"dtype": job["precision"] if lora else "float32"},
      **job["options"],
    }
    with open(job["train"]) as file:
      texts = [_text_row(tokenizer, row) for row in json.load(file)]
    trainer(
      model=job["model"],
      args=config(**options),
      train_dataset=datasets.Dataset.from_list(texts),
      processing_class=tokenizer,
      peft_config=lora,
      callbacks=[StepOnRequest()],
    ).train()


def _text_row(tokenizer, row) -> dict[str, str]:
  """A row in TRL's plain-text format; TRL appends the end token, as we do."""
  messages = row["messages"]
  if "chosen" in row:
    responses = {name: row[name]["content"] for name in ("chosen", "rejected")}
  else:
    *messages, answer = messages
    responses = {"completion": answer["content"]}
  prompt = tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True
  )
  return {"prompt": prompt, **responses}


if __name__ == "__main__":
  main(json.loads(sys.argv[1]))
