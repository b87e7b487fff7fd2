"""TRL on the same rows, in a process of its own, one step when it is asked for.

The process is this module run with a JSON description; see `main`.
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
  """What is TRL's to choose: rows at once, and the precision of its products."""

  micro_batch: int
  precision: Literal["float32", "bfloat16"]

  @property
  def name(self) -> str:
    return f"{self.precision} x {self.micro_batch}"


class Program:
  """One optimizer step a call."""

  def __init__(self, process: subprocess.Popen, batch: int, log: Any):
    self._process, self._batch, self._log = process, batch, log
    self.losses: list[float] = []
    self.memory: dict[str, int] = {}  # peaks, of the process and the device
    self.cpu_seconds: list[float] = []  # of each call

  def __call__(self, step: int) -> int:
    del step  # it takes its batches in the rows' order
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
    told = json.loads(line)
    self.losses.append(told["loss"])
    self.memory = told["memory"]
    self.cpu_seconds.append(told["cpu_seconds"])
    return self._batch


@contextlib.contextmanager
def program(
  kind: Literal["sft", "dpo"],
  model: epath.Path,
  train: epath.Path,
  batch: int,
  calls: int,
  setting: Setting,
  **options: Any,
) -> Iterator[Program]:
  """Starts TRL, in the user's own environment; it ends with the block.

  Args:
    model: a Hugging Face directory.
    train: rows as `rows.make` gives them; taken in file order.
    calls: how many there will be.
    options: of TRL's own config.

  Raises:
    UserError: from a call, when TRL ends early; names its last line.
  """
  wanted = {
    "kind": kind,
    "model": str(model),
    "train": str(train),
    "batch": batch,
    "steps": calls,
    **dataclasses.asdict(setting),
    "options": options,
  }
  command = [sys.executable, "-m", "vpo_jax.bench.trl", json.dumps(wanted)]
  pipe, environment = subprocess.PIPE, allocator.environment()
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


def main(wanted: dict[str, Any]) -> None:
  """Trains; waits for a line before each step, answers with its loss and the memory."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print is no answer
  import datasets  # of the extra `bench`  # pyright: ignore[reportMissingImports]
  import torch
  import transformers
  import trl

  from vpo_jax.bench import machine
  from vpo_jax.data import chat

  class InTurns(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
      if not sys.stdin.readline():
        raise SystemExit("nobody asks any more")
      self.began = time.process_time()

    def on_log(self, args, state, control, logs=None, **_):
      if logs and "loss" in logs:
        memory = {"peak_rss_bytes": machine.peak_rss_bytes()}
        if torch.cuda.is_available():
          memory["peak_device_bytes"] = torch.cuda.max_memory_allocated()
        told = {
          "loss": logs["loss"],
          "memory": memory,
          "cpu_seconds": time.process_time() - self.began,
        }
        answers.write(json.dumps(told) + "\n")
        answers.flush()

  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(wanted["model"])
  if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
  bfloat16 = wanted["precision"] == "bfloat16"
  name = wanted["kind"].upper()
  config, trainer = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
  with tempfile.TemporaryDirectory() as folder:
    options: dict[str, Any] = {
      "output_dir": folder,
      "per_device_train_batch_size": wanted["micro_batch"],
      "gradient_accumulation_steps": wanted["batch"] // wanted["micro_batch"],
      "max_steps": wanted["steps"],
      "train_sampling_strategy": "sequential",
      "bf16": bfloat16,
      "gradient_checkpointing": False,  # its default; without, it is faster
      "max_length": 2048,
      "logging_steps": 1,
      "report_to": "none",
      "save_strategy": "no",
      "disable_tqdm": True,
      "use_cpu": not torch.cuda.is_available(),
      "dataloader_pin_memory": torch.cuda.is_available(),
      "model_init_kwargs": {"dtype": "float32"},
      **wanted["options"],
    }
    with open(wanted["train"]) as file:
      texts = [_text_row(tokenizer, row, chat.render) for row in json.load(file)]
    trainer(
      model=wanted["model"],
      args=config(**options),
      train_dataset=datasets.Dataset.from_list(texts),
      processing_class=tokenizer,
      callbacks=[InTurns()],
    ).train()


def _text_row(tokenizer, row, render) -> dict[str, str]:
  """TRL's row of plain text; it adds the end token, and nothing that we do not."""
  messages = row["messages"]
  if "chosen" in row:
    answers = {name: row[name]["content"] for name in ("chosen", "rejected")}
  else:
    *messages, answer = messages
    answers = {"completion": answer["content"]}
  return {"prompt": render(tokenizer, messages), **answers}


if __name__ == "__main__":
  main(json.loads(sys.argv[1]))
