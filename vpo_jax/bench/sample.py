"""Throughput of sampling and of transformers' `generate`, in new tokens per second."""

from collections.abc import Callable, Sequence
from typing import Any

from vpo_jax import errors
from vpo_jax.bench import interleave
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
  policy = lm.load(model, precision=precision)
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
  for name in against:
    programs[name] = _transformers(policy, name, sampling, batch_of)
  return {
    "stage": "sample",
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
  batch_of: Callable[[int], list[lm.Prompt]],
) -> interleave.Program:
  import torch
  import transformers

  kind, _, dtype = name.partition("-")
  if kind != "transformers" or dtype not in ("", "float32", "bfloat16"):
    raise errors.UserError(
      f"--against={name}: use transformers-float32 or transformers-bfloat16"
    )
  model: Any = transformers.AutoModelForCausalLM.from_pretrained(
    policy.folder, dtype=getattr(torch, dtype or policy.dtype)
  ).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    policy.folder, padding_side="left"
  )

  def theirs(step: int) -> int:
    texts = [prompt.rendered for prompt in batch_of(step)]
    inputs = tokenizer(
      texts, return_tensors="pt", padding=True, add_special_tokens=False
    )
    torch.manual_seed(step)
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
