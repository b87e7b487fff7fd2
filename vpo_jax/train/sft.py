"""Stage train_sft: supervised fine-tuning on the teacher's prompts (paper, 3.2)."""

from typing import Any

import ml_collections
from etils import epath

from vpo_jax import stages
from vpo_jax.train import loop, objective, setup

NAME = "train_sft"


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> dict[str, Any]:
  """Trains `config.model` on (query, prompt) rows; writes `train_sft/model`.

  Args:
    config: see configs/sft.py. `train` and `heldout` name JSON files; empty, they are
      those of build_sft.

  Returns: counts, and held-out loss before and after, in nats a token.
  """
  loop.check(config)
  workdir = epath.Path(workdir)
  train_path = epath.Path(config.train or workdir / "build_sft" / "train.json")
  heldout_path = epath.Path(config.heldout or workdir / "build_sft" / "heldout.json")
  model = setup.open_model(config, config.model)
  work = stages.begin(
    NAME,
    config,
    workdir,
    {"train": train_path, "heldout": heldout_path, "model": model.base},
  )
  if work.counts is not None:
    return work.counts

  train = setup.read_examples(train_path, model, "sft", config, work.folder)
  heldout = setup.read_examples(heldout_path, model, "sft", config, work.folder)
  params = model.load()
  trained, metrics, plan = loop.fit(
    "train SFT",
    work.folder,
    config,
    model.policy,
    objective.sft,
    params,
    model.placement,
    loop.Split(train),
    loop.Split(heldout),
  )
  setup.save_model(work.folder, model, config, params, trained)
  return work.finish(
    {
      "examples": len(train),
      "heldout": len(heldout),
      "steps": len(plan.steps),
      "padding": plan.padding,
      "loss_before": metrics.first("eval/loss"),
      "loss_after": metrics.last("eval/loss"),
    }
  )
