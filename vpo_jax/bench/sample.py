"""Throughput of sampling and of transformers' `generate`, in new tokens per second."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from vpo_jax import errors
from vpo_jax.bench import interleave, shapes
from vpo_jax.sample import generate, lm, settings

SLOTS = 32  # as configs/sample.py


def bench(
  model: str,
  queries: Sequence[str],
  sampling: settings.Settings,
  *,
  batch: int,
  steps: int,
  precision: str = "float32",
  against: Sequence[str] = (),
) -> dict[str, Any]:
  """Samples `batch` queries per step.

  Args:
    against: programs to compare with: "transformers-float32", "transformers-bfloat16".

  Raises:
    UserError: fewer queries than `batch`, or an unknown program in `against`.
  """
  if len(queries) < batch:
    raise errors.UserError(f"--batch={batch}: there are only {len(queries)} queries")
  with tempfile.TemporaryDirectory() as folder:
    base = shapes.resolve(model, epath.Path(folder))
    policy = lm.load(str(base), precision=precision)
    others = {name: _transformers(policy, name, sampling) for name in against}
  prompts = [policy.prompt(query) for query in queries]

  def batch_of(step: int) -> list[lm.Prompt]:
    start = step * batch % (len(prompts) - batch + 1)
    return prompts[start : start + batch]

  def ours(step: int) -> int:
    slots = min(batch * sampling.num_candidates, SLOTS)
    rows = generate.generate(policy, batch_of(step), sampling, slots=slots)
    return sum(candidate.tokens for row in rows for candidate in row)

  for step in interleave.timed(steps):  # compiles for every length of prompt
    ours(step)
  programs: dict[str, interleave.Program] = {"vpo_jax": ours}
  for name, generate_texts in others.items():
    programs[name] = lambda step, run=generate_texts: run(step, batch_of(step))
  return {
    "stage": "sample",
    "model": model,
    "batch": batch,
    "num_candidates": sampling.num_candidates,
    "max_new_tokens": sampling.max_new_tokens,
    "precision": precision,
    **interleave.run(programs, steps, "new_tokens"),
  }


def _transformers(
  policy: lm.LanguageModel,
  name: str,
  sampling: settings.Settings,
) -> Callable[[int, list[lm.Prompt]], int]:
  """Loads transformers' model; returns what samples prompts with a seed."""
  import torch
  import transformers

  kind, _, dtype = name.partition("-")
  if kind != "transformers" or dtype not in ("", "float32", "bfloat16"):
    raise errors.UserError(
      f"--against={name}: use transformers-float32 or transformers-bfloat16"
    )
  device = "cuda" if torch.cuda.is_available() else "cpu"
  model: Any = transformers.AutoModelForCausalLM.from_pretrained(
    policy.folder, dtype=getattr(torch, dtype or policy.dtype)
  )
  model.to(device).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    policy.folder, padding_side="left"
  )

  def theirs(seed: int, prompts: list[lm.Prompt]) -> int:
    texts = [prompt.rendered for prompt in prompts]
    inputs = tokenizer(
      texts, return_tensors="pt", padding=True, add_special_tokens=False
    ).to(device)
    torch.manual_seed(seed)
    with torch.inference_mode():
      out = model.generate(
        **inputs,
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        num_return_sequences=sampling.num_candidates,
        max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=sampling.max_new_tokens if sampling.ignore_eos else None,
        pad_token_id=tokenizer.eos_token_id,
      )
    new = out[:, inputs.input_ids.shape[1] :]
    # The end token counts, as in our own figure; the padding after it does not.
    ended = (new == tokenizer.eos_token_id).int().cumsum(1) > 0
    return int((~ended).sum() + ended.any(1).sum())

  return theirs
