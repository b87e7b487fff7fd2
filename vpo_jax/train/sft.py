"""Stage train_sft: supervised fine-tuning on the teacher's prompts (paper, 3.2)."""

from vpo_jax import stages
from vpo_jax.decoder import source
from vpo_jax.train import loop, objective, setup


def run(work: stages.Work) -> stages.Counts:
  """Trains `config.model` on (query, prompt) rows; writes `train_sft/model`.

  Returns: counts, and the held-out loss before and after, in nats per token (None
    without held-out examples).
  """
  loop.check(work.config, work.folder)
  loss = objective.sft_from_config(work.config)
  model = setup.open_model(work.config, work.inputs["model"])
  template = setup.instruction(work, model.base)
  train = setup.read_examples(work, "train", model, "sft")
  heldout = setup.read_examples(work, "heldout", model, "sft")
  task = loop.Task("train SFT", work, model.policy, model.placement, loss)
  params = model.load()
  fitted = loop.fit(task, params, loop.Split(train), loop.Split(heldout))
  setup.save_model(work, model, params, fitted.params, template)
  return {
    "examples": len(train),
    "heldout": len(heldout),
    **fitted.counts(),
  }


def _inputs(config: stages.Config) -> stages.Inputs:
  return (
    stages.Input("train", "build_sft/train.json"),
    stages.Input("heldout", "build_sft/heldout.json", optional=True),
    stages.Input("model", resolve=source.resolve),
    *setup.inputs(config),
  )


STAGE = stages.Stage(
  name="train_sft",
  run=run,
  inputs=_inputs,
  execution_keys=loop.EXECUTION_KEYS,
  uses_jax=True,
  handles_sigterm=True,
)
