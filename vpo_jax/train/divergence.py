"""Stage divergence: how far a trained model is from the one that it began as."""

import statistics

import jinja2

from vpo_jax import errors, records, stages, templates
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forms
from vpo_jax.decoder import source
from vpo_jax.train import loop, setup


def run(work: stages.Work) -> stages.Counts:
  """Estimates KL(model || reference) from prompts that the model sampled.

  The estimate is the mean over the prompts of log p(prompt | query) under the model
  minus that under the reference, in nats of a whole prompt. It is an unbiased estimate
  of the KL if the prompts were sampled with temperature 1 and top-p 1. At a lower
  temperature it measures the difference on the model's likeliest prompts.

  Raises:
    UserError: a model cannot be read, or no prompt can be tokenized.
  """
  examples, aside = _read(work)
  totals = {}
  for key in ("model", "reference"):  # one after the other: one is in memory at a time
    model = setup.open_model(work.config, work.inputs[key])
    split = setup.with_reference(work, key, loop.Split(examples), model.load(), model)
    assert split.reference is not None
    totals[key] = [float(values.sum()) for row in split.reference for values in row]
  differences = [a - b for a, b in zip(*totals.values(), strict=True)]
  deviation = statistics.stdev(differences) if len(differences) > 1 else 0.0
  tokens = sum(len(tokens) for row in examples for tokens in row.responses)
  return {
    "prompts": len(differences),
    "set_aside": aside,
    "kl": round(statistics.fmean(differences), 4),
    "kl_standard_error": round(deviation / len(differences) ** 0.5, 4),
    "kl_per_token": round(sum(differences) / tokens, 6),
  }


def _read(work: stages.Work) -> tuple[list[data_examples.Example], int]:
  """The sampled prompts as tokens, and how many rows could not be tokenized."""
  model = setup.open_model(work.config, work.inputs["model"])
  template = templates.of_model(model.base)
  limit = min(work.config.max_tokens, model.policy.config.context)
  examples, aside = [], 0
  for row in records.read(work.inputs["candidates"], records.Candidates):
    content = templates.fill(template, query=row.query)
    turns = ({"role": "user", "content": content},)
    prompts = tuple(dict.fromkeys(one.prompt for one in row.candidates))
    try:
      example = data_examples.tokens(
        row.query_id, forms.Row(turns, prompts), model.format
      )
    except (ValueError, jinja2.TemplateError):
      aside += 1
      continue
    if len(example.prompt) + max(map(len, example.responses)) > limit:
      aside += 1
      continue
    examples.append(example)
  if not examples:
    raise errors.UserError(f"{work.inputs['candidates']}: no prompt can be tokenized")
  return examples, aside


STAGE = stages.Stage(
  name="divergence",
  run=run,
  inputs=(
    stages.Input("candidates", "sample/candidates.jsonl"),
    stages.Input("model", "train_dpo/model", resolve=source.resolve),
    stages.Input("reference", "train_sft/model", resolve=source.resolve),
  ),
  execution_keys=(
    "micro_tokens",
    "batch_size",
    "mesh.*",
    "check_packing",
    "hang_minutes",
  ),
  uses_jax=True,
)
