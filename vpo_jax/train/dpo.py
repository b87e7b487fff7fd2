"""Stage train_dpo: preference optimization on D_text and D_video (paper, 3.3)."""

from typing import Any

import ml_collections
from etils import epath

from vpo_jax import stages
from vpo_jax.train import loop, objective, reference, setup

NAME = "train_dpo"


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Trains the SFT model on preference pairs; writes `train_dpo/model`.

  Args:
    config: see configs/dpo.py. `train` and `heldout` name JSON files of pairs; empty,
      they are those of merge_pairs. `model` is the policy and the frozen reference.

  Returns: counts, and held-out loss, reward accuracy and margin, before and after.
  """
  loop.check(config)
  preference = objective.from_config(config)
  workdir = epath.Path(workdir)
  train_path = epath.Path(config.train or workdir / "merge_pairs" / "train.json")
  heldout_path = epath.Path(config.heldout or workdir / "merge_pairs" / "heldout.json")
  model = setup.open_model(config, config.model or str(workdir / "train_sft" / "model"))
  work = stages.begin(
    NAME,
    config,
    workdir,
    {"train": train_path, "heldout": heldout_path, "model": model.base},
  )
  if work.counts is not None:
    return work.counts

  params = model.load()

  def split(path: epath.Path) -> loop.Split:
    examples = setup.read_examples(path, model, "dpo", config, work.folder)
    reference_XE = reference.logps(
      work.folder / f"reference_{path.stem}.npz",
      examples,
      params,
      model.policy,
      model.placement,
      batch_size=config.batch_size,
      budget=config.micro_tokens,
    )
    return loop.Split(examples, reference_XE)

  train, heldout = split(train_path), split(heldout_path)
  trained, metrics, plan = loop.fit(
    "train DPO",
    work.folder,
    config,
    model.policy,
    preference,
    params,
    model.placement,
    train,
    heldout,
  )
  setup.save_model(work.folder, model, config, params, trained)
  return work.finish(
    {
      "pairs": len(train.examples),
      "heldout": len(heldout.examples),
      "steps": len(plan.steps),
      "padding": plan.padding,
      "loss_before": metrics.first("eval/loss"),
      "loss_after": metrics.last("eval/loss"),
      "reward_accuracy": metrics.last("eval/rewards/accuracies"),
      "reward_margin": metrics.last("eval/rewards/margins"),
      "train_reward_accuracy": metrics.last("rewards/accuracies"),
    }
  )
