"""New tokens a second of sampling, and of transformers' `generate`."""

from collections.abc import Callable, Sequence
from typing import Any

from vpo_jax import errors
from vpo_jax.bench import turns
from vpo_jax.sample import generate, lm, settings

SLOTS = 32  # of ours; configs/sample.py


def bench(
  model: str,
  queries: Sequence[str],
  wanted: settings.Settings,
  *,
  batch: int,
  steps: int,
  precision: str = "float32",
  against: Sequence[str] = (),
) -> dict[str, Any]:
  """Samples `batch` queries a step.

  Args:
    against: "transformers-float32", "transformers-bfloat16" or both, measured too.

  Raises:
    UserError: too few queries, or `against` names something else.
  """
  if len(queries) < batch:
    raise errors.UserError(f"--batch={batch} wants as many queries, got {len(queries)}")
  policy = lm.load(model, precision=precision)
  prompts = [policy.prompt(query) for query in queries]

  def chosen(step: int) -> list[lm.Prompt]:
    start = step * batch % (len(prompts) - batch + 1)
    return prompts[start : start + batch]

  def ours(step: int) -> int:
    slots = min(batch * wanted.num_candidates, SLOTS)
    rows = generate.generate(policy, chosen(step), wanted, slots=slots)
    return sum(candidate.tokens for row in rows for candidate in row)

  for step in turns.timed(steps):  # compiles for the prompts of every length
    ours(step)
  programs: dict[str, turns.Program] = {"vpo_jax": ours}
  for name in against:
    programs[name] = _transformers(policy, name, wanted, chosen)
  return {
    "stage": "sample",
    "batch": batch,
    "num_candidates": wanted.num_candidates,
    "max_new_tokens": wanted.max_new_tokens,
    "precision": precision,
    **turns.take(programs, steps, "new_tokens"),
  }


def _transformers(
  policy: lm.LanguageModel,
  name: str,
  wanted: settings.Settings,
  chosen: Callable[[int], list[lm.Prompt]],
) -> turns.Program:
  import torch
  import transformers

  kind, _, dtype = name.partition("-")
  if kind != "transformers" or dtype not in ("", "float32", "bfloat16"):
    raise errors.UserError(f"--against={name}: wants transformers-{policy.dtype}")
  llama: Any = transformers.AutoModelForCausalLM.from_pretrained(
    policy.folder, dtype=getattr(torch, dtype or policy.dtype)
  ).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    policy.folder, padding_side="left"
  )

  def theirs(step: int) -> int:
    texts = [prompt.rendered for prompt in chosen(step)]
    inputs = tokenizer(
      texts, return_tensors="pt", padding=True, add_special_tokens=False
    )
    torch.manual_seed(step)
    with torch.inference_mode():
      out = llama.generate(
        **inputs,
        do_sample=wanted.temperature > 0,
        temperature=wanted.temperature or None,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        num_return_sequences=wanted.num_candidates,
        max_new_tokens=wanted.max_new_tokens,
        min_new_tokens=wanted.max_new_tokens if wanted.ignore_eos else None,
        pad_token_id=tokenizer.eos_token_id,
      )
    new = out[:, inputs.input_ids.shape[1] :]
    ended = (new == tokenizer.eos_token_id).int().cumsum(1) > 0
    # An answer's end token counts, as it does for us; what follows it is padding.
    return int((~ended).sum() + ended.any(1).sum())

  return theirs
