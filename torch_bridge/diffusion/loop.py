"""The training loop."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import accelerate
import torch

from torch_bridge import contract
from torch_bridge.diffusion import (
  checkpoint,
  data,
  families,
  metrics,
  objective,
  processes,
)
from torch_bridge.diffusion import policy as policies
from torch_bridge.renderers import base
from torch_bridge.renderers import diffusers as rendering

OUTPUT = "output"  # folder of what is rendered with, by step


class Trainer:
  """A run of Diffusion DPO, from its last checkpoint on."""

  def __init__(
    self,
    job: dict[str, Any],
    folder: pathlib.Path,
    accelerator: accelerate.Accelerator,
    source: data.Source | None = None,
  ):
    """Loads the model and the last checkpoint.

    Args:
      job: the content of the job file.
      folder: of the job file, for checkpoints and metrics.
      source: of the encoded pairs; None is the job's store.

    Raises:
      ModelError: the model or the pairs cannot be used, or one pair does not fit in
        memory.
    """
    self._job, self._training, self._folder = job, job["training"], folder
    self._accelerator = accelerator
    self._source = source or data.Source(contract.Store(pathlib.Path(job["store"])))
    self._pairs = data.read_pairs(folder / "train.jsonl")
    self._heldout = data.read_pairs(folder / "heldout.jsonl")
    self._family = families.find(job["settings"]["pipeline"])
    self.policy = policies.Policy(job, accelerator.device)
    latents = self._source.latents(self._pairs[0].chosen)
    self._noising = self._family.noising(
      self.policy.scheduler, latents, job["settings"]
    )
    optimizer = torch.optim.AdamW(
      self.policy.trainable(),
      lr=self._training["peak_lr"],
      betas=(self._training["beta1"], self._training["beta2"]),
      weight_decay=self._training["weight_decay"],
    )
    self._model, self._optimizer = accelerator.prepare(self.policy.module, optimizer)
    self._share = processes.share(
      self._training["batch_size"], accelerator.num_processes
    )
    self.micro = min(self._training["micro_batch"], self._share)
    self.step = checkpoint.restore(self._checkpoints, self._model, self._plain)

  @property
  def _checkpoints(self) -> pathlib.Path:
    return self._folder / "checkpoints"

  @property
  def _is_main(self) -> bool:
    return self._accelerator.is_main_process

  @property
  def _plain(self) -> torch.optim.Optimizer:
    """The optimizer without accelerate's wrapper."""
    return self._optimizer.optimizer

  def run(self, until: int, ended: Callable[[], bool]) -> bool:
    """Trains to a step, measures the held-out pairs and saves the output.

    Args:
      ended: whether to save and to stop now; asked after every step.

    Returns: whether it reached the step.
    """
    again = self.step >= until
    with metrics.open_log(
      self._folder, self.step, again=again, writes=self._is_main
    ) as log:
      if self.step < until and self._accelerator.num_processes > 1:
        self._fit()
      while self.step < until:
        began = time.monotonic()
        found = self.advance()
        log(self.step, found | {"seconds": round(time.monotonic() - began, 3)})
        stop = self._any(ended())
        due = self.step % self._training["checkpoint_every"] == 0
        if stop or due or self.step == until:
          self.save()
        if stop and self.step < until:
          return False
      log(self.step, self.measure_heldout())
    self._write_output()
    return True

  def advance(self) -> dict[str, float]:
    """Does one step; returns its metrics, means over the batch."""
    training = self._training
    chosen = data.indices(
      len(self._pairs), training["batch_size"], self.step, training["seed"]
    )
    start = self._accelerator.process_index * self._share
    mine = [self._pairs[place] for place in chosen[start : start + self._share]]
    rate = learning_rate(self.step, training)
    for group in self._optimizer.param_groups:
      group["lr"] = rate
    found = self._backward(mine)
    while found is None:
      self._halve()
      found = self._backward(mine)
    norm = self._accelerator.clip_grad_norm_(
      self.policy.trainable(), training["clip_norm"]
    )
    self._optimizer.step()
    self._optimizer.zero_grad()
    self.step += 1
    return self._means(found) | {"grad_norm": float(norm or 0.0), "lr": rate}

  def _backward(
    self, pairs: list[contract.EncodedPair]
  ) -> list[dict[str, torch.Tensor]] | None:
    """Adds the pairs' gradients, a micro-batch at a time.

    Returns: their metrics; None if a micro-batch did not fit in memory.

    Raises:
      ModelError: it did not fit, and other processes wait for this one.
    """
    found = []
    try:
      for start in range(0, len(pairs), self.micro):
        part = pairs[start : start + self.micro]
        last = start + self.micro >= len(pairs)
        # Gradients are averaged over the processes once, with the last micro-batch.
        with self._synchronized(last):
          loss, values = self.loss(part, self.step)
          self._accelerator.backward(loss * (len(part) / len(pairs)))
        found.append(values)
    except (RuntimeError, MemoryError) as error:
      if not rendering.is_out_of_memory(error):
        raise
      if self._accelerator.num_processes > 1:
        raise base.ModelError(
          f"out of memory at step {self.step} with micro_batch={self.micro}; run again"
          " with a smaller one"
        ) from error
      return None
    return found

  def _synchronized(self, last: bool) -> Any:
    if last:
      return torch.enable_grad()
    return self._accelerator.no_sync(self._model)

  def loss(
    self, pairs: list[contract.EncodedPair], step: int | str
  ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`objective.dpo` of some pairs, with the noise of a step."""
    batch = data.batch(self._source, pairs, self._training["seed"], step)
    batch = batch.to(self._accelerator.device, self.policy.dtype)
    noised = self._noising(batch.latents, batch.noise, batch.uniform)

    def errors(module: Any) -> torch.Tensor:
      with self._autocast():
        predicted = self._family.predict(
          module, self.policy.config, noised, batch.text, self._job["settings"]
        )
      return objective.error(predicted, noised.target).unflatten(0, (-1, 2))

    with self.policy.reference() as module:
      reference = errors(module)
    return objective.dpo(errors(self._model), reference, beta=self._training["beta"])

  def _autocast(self) -> Any:
    """Weights in float32 compute in the policy's dtype."""
    mixed = not self.policy.lora and self.policy.dtype != torch.float32
    device = self._accelerator.device.type
    return torch.autocast(device, self.policy.dtype, enabled=mixed)

  def _fit(self) -> None:
    """Halves the micro-batch until forward and backward fit in every process.

    Alone, a process halves when a step fails; together, they must agree before they
    wait for each other. All pairs have the same size, so a trial tells.
    """
    while self._any(not self._fits()):
      self._halve()
    self._optimizer.zero_grad()

  def _halve(self) -> None:
    """Halves the micro-batch, so that gradients are accumulated twice as often.

    Raises:
      ModelError: it is one pair already.
    """
    # Not while an exception is handled: its traceback holds the tensors.
    self._optimizer.zero_grad()
    rendering.free()
    if self.micro == 1:
      raise base.ModelError(
        "out of memory with one pair at a time; use gradient_checkpointing, a smaller"
        " video, or shard=True on several GPUs"
      )
    before, self.micro = self.micro, (self.micro + 1) // 2
    if self._is_main:
      print(
        f"train: out of memory with {before} pairs at a time: {self.micro} from now"
        f" on, accumulated {math.ceil(self._share / self.micro)} times",
        flush=True,
      )

  def _fits(self) -> bool:
    pairs = self._pairs[: self.micro]
    # What the optimizer will keep: two moments of each parameter.
    moments: list[torch.Tensor] = []
    try:
      if not self._plain.state:
        moments = [torch.zeros_like(one) for one in self.policy.trainable() * 2]
      with self._accelerator.no_sync(self._model):
        loss, _ = self.loss(pairs, "trial")
        self._accelerator.backward(loss)
    except (RuntimeError, MemoryError) as error:
      if not rendering.is_out_of_memory(error):
        raise
      return False
    finally:
      moments.clear()
    return True

  def measure_heldout(self) -> dict[str, float]:
    """The loss on the held-out pairs, each with noise that is the same every time."""
    count, index = self._accelerator.num_processes, self._accelerator.process_index
    # The last round is filled up, so that all processes do the same; gathered means
    # are over whole rounds.
    rounds = math.ceil(len(self._heldout) / count)
    found = []
    with torch.no_grad():
      for number in range(rounds):
        place = (number * count + index) % len(self._heldout)
        found.append(self.loss([self._heldout[place]], "heldout")[1])
    return {f"heldout_{name}": value for name, value in self._means(found).items()}

  def save(self) -> None:
    """Writes a checkpoint."""
    state = checkpoint.state(self._model, self._plain, self.step)
    if self._is_main:
      checkpoint.save(self._checkpoints, state, self._training["keep"])
    self._accelerator.wait_for_everyone()

  def _write_output(self) -> None:
    """Writes what the renderer reads, for the current step."""
    weights = checkpoint.weights(self._model)
    folder = self._folder / OUTPUT / f"{self.step:07d}"
    if self._is_main and not folder.exists():
      temporary = folder.with_name(f"{contract.TEMPORARY}{folder.name}")
      self.policy.save(temporary, weights, self._job["settings"]["pipeline"])
      temporary.replace(folder)
    self._accelerator.wait_for_everyone()

  def _means(self, found: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Means over all processes' pairs, by name."""
    names = list(found[0])
    mine = torch.stack([torch.cat([one[name] for one in found]) for name in names], 1)
    every = self._accelerator.gather(mine)
    assert isinstance(every, torch.Tensor)
    return dict(zip(names, every.double().mean(0).tolist(), strict=True))

  def _any(self, value: bool) -> bool:
    """Whether the value is true in any process."""
    flag = torch.tensor([float(value)], device=self._accelerator.device)
    found = self._accelerator.reduce(flag, reduction="sum")
    assert isinstance(found, torch.Tensor)
    return bool(found.item())


def learning_rate(step: int, training: dict[str, Any]) -> float:
  """Linear warmup to the peak, then linear decay to 0 at the last step."""
  warmup, steps = training["warmup"], training["steps"]
  rising = (step + 1) / max(1, warmup)
  falling = (steps - step) / max(1, steps - warmup)
  return training["peak_lr"] * min(1.0, rising, falling)
