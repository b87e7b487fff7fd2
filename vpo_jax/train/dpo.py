"""Stage train_dpo: preference optimization on D_text and D_video (paper, 3.3)."""

from vpo_jax import stages
from vpo_jax.decoder import source
from vpo_jax.train import loop, pair_objective, setup


def run(work: stages.Work) -> stages.Counts:
  """Trains the SFT model on preference pairs; writes `train_dpo/model`.

  The model that training starts from is also the frozen reference.

  Returns: counts, and the held-out loss, reward accuracy and reward margin (nats)
    before and after (None without held-out pairs).
  """
  config = work.config
  loop.check(config, work.folder)
  preference = pair_objective.from_config(config)
  model = setup.open_model(config, work.inputs["model"])
  template = setup.instruction(work, model.base)
  pairs = setup.read_examples(work, "train", model, "dpo")
  unseen = setup.read_examples(work, "heldout", model, "dpo")
  params = model.load()
  train, heldout = loop.Split(pairs), loop.Split(unseen)
  if config.loss not in pair_objective.REFERENCE_FREE:
    train = setup.with_reference(work, "train", train, params, model)
    heldout = setup.with_reference(work, "heldout", heldout, params, model)
  task = loop.Task("train DPO", work, model.policy, model.placement, preference)
  fitted = loop.fit(task, params, train, heldout)
  setup.save_model(work, model, params, fitted.params, template)
  return {
    "pairs": len(train.examples),
    "heldout": len(heldout.examples),
    **fitted.counts(),
    "reward_accuracy": fitted.metrics.last("eval/rewards/accuracies"),
    "reward_margin": fitted.metrics.last("eval/rewards/margins"),
    "train_reward_accuracy": fitted.metrics.last("rewards/accuracies"),
  }


def _inputs(config: stages.Config) -> stages.Inputs:
  return (
    stages.Input("train", "merge_pairs/train.json"),
    stages.Input("heldout", "merge_pairs/heldout.json", optional=True),
    stages.Input("model", "train_sft/model", resolve=source.resolve),
    *setup.inputs(config),
  )


STAGE = stages.Stage(
  name="train_dpo",
  run=run,
  inputs=_inputs,
  execution_keys=loop.EXECUTION_KEYS,
  uses_jax=True,
  handles_sigterm=True,
)
