"""Stage train_diffusion_dpo: Diffusion DPO of the video model (paper, section 4.5).

Training is a program of the torch bridge (torch_bridge/diffusion). Every few steps it
stops, held-out prompts are rendered with what it has learned, and their videos are
scored; the output is that of the step with the highest mean reward.

    encode/        the queue of videos and prompts to encode
    run/           pairs, checkpoints, metrics and outputs by step
    evaluation/    rewards of held-out prompts by step
    lora/          the chosen LoRA; or model/, if all weights were trained
"""

import collections
import pathlib
import shutil
import statistics
from collections.abc import Sequence

import ml_collections

from torch_bridge import contract
from vpo_jax import buckets, errors, files, records, stages
from vpo_jax.feedback import (
  bridge,
  diffusion_encoding,
  identity,
  rewards,
  score_videos,
  trained_model,
  training,
)
from vpo_jax.runtime import console
from vpo_jax.train import log

LORA = "lora"  # folder of the result
MODEL = "model"  # folder of the result, if all weights were trained
_METHODS = (LORA, "full")


def run(work: stages.Work) -> stages.Counts:
  """Writes lora/ (or model/), set_aside.jsonl, metrics and evaluations.

  Raises:
    UserError: the config or an input is wrong, no pair can be used, or the bridge or
      the training cannot work.
    SystemExit: on SIGTERM; the same command continues.
  """
  config = work.config
  _check(config)
  run = _Run(work)
  encoded = diffusion_encoding.encode(
    run.link, work.name, {part: work.inputs[part] for part in ("train", "heldout")}
  )
  records.write(work.folder / "set_aside.jsonl", encoded.aside)
  run.write_job(encoded.pairs)
  plan = run.link.devices()
  measured = log.Log(work.folder / "evaluation", -1)
  found: dict[int, dict[str, float]] = {}
  for step in [0, *_stops(config)]:
    if step and not run.output(step).exists():
      training.run(run.job, step, plan, config.processes)
    found[step] = run.evaluate(step, encoded.rows["heldout"])
    measured.add(step, found[step])
    console.say(
      f"{work.name}: step {step} of {config.steps}: mean reward of"
      f" {found[step]['videos']:.0f} videos {found[step]['reward']:.4f}"
    )
  measured.close()
  best = max((step for step in found if step), key=lambda step: found[step]["reward"])
  run.publish(best)
  if found[best]["reward"] <= found[0]["reward"]:
    console.say(
      f"{work.name}: no step has a higher reward than the model before training"
    )
  return {
    "pairs": len(encoded.pairs["train"]),
    "heldout_pairs": len(encoded.pairs["heldout"]),
    "set_aside": len(encoded.aside),
    "steps": config.steps,
    "best_step": best,
    "reward_before": round(found[0]["reward"], 4),
    "reward": round(found[best]["reward"], 4),
  }


def _check(config: ml_collections.ConfigDict) -> None:
  if config.method not in _METHODS:
    raise errors.UserError(
      f"config.method={config.method!r}: must be one of {', '.join(_METHODS)}"
    )
  if config.shard and config.method != LORA:
    raise errors.UserError("config.shard=True needs config.method='lora'")
  if config.precision not in ("bfloat16", "float32"):
    raise errors.UserError(
      f"config.precision={config.precision!r}: must be bfloat16 or float32"
    )
  for name in ("steps", "batch_size", "micro_batch", "evaluate_every", "beta"):
    if config[name] <= 0:
      raise errors.UserError(f"config.{name}={config[name]}: must be above 0")
  settings, _ = identity.settings(config.renderer)
  if settings["renderer"] != "diffusers":
    raise errors.UserError(
      f"config.renderer: {settings['renderer']} cannot be trained, only diffusers"
    )
  if config.renderer.lora.path:
    raise errors.UserError("config.renderer.lora: training starts without a LoRA")


def _stops(config: ml_collections.ConfigDict) -> list[int]:
  """The steps at which held-out prompts are rendered; the last one is the end."""
  every = range(config.evaluate_every, config.steps, config.evaluate_every)
  return [*every, config.steps]


class _Run:
  """The files of a run.

  Attributes:
    link: the bridge without a LoRA.
    job: the job file of training.
  """

  def __init__(self, work: stages.Work):
    self._work = work
    self._config = work.config
    self.link = bridge.Bridge(work.config, work.folder, work.store)
    self._folder = pathlib.Path(buckets.scratch(work.folder))
    self.job = self._folder / "run" / "job.json"

  def write_job(self, pairs: dict[str, list[contract.EncodedPair]]) -> None:
    """Writes the pairs and the job file of training."""
    config = self._config
    for part, rows in pairs.items():
      contract.write_rows(self.job.parent / f"{part}.jsonl", rows)
    job = {
      "version": contract.VERSION,
      "task": "train",
      "store": str(self.link.store.root.resolve()),
      "model": self.link.model,
      "settings": self.link.settings,
      "options": {
        "device": config.renderer.options.device,
        "revision": config.renderer.revision,
      },
      "training": {name: config[name] for name in _TRAINING}
      | {"targets": list(config.targets)},
    }
    files.write_json(self.job, job)

  def output(self, step: int) -> pathlib.Path:
    """What training writes at a step."""
    return self.job.parent / "output" / f"{step:07d}"

  def evaluate(
    self, step: int, heldout: Sequence[contract.VideoPair]
  ) -> dict[str, float]:
    """Renders and scores held-out prompts; step 0 is the model before training.

    Returns: the mean reward, its parts, and the number of videos.
    """
    config = self._config.copy_and_resolve_references()
    if step and config.method == LORA:
      config.renderer.lora.path = str(self.output(step))
    elif step:
      config.renderer.update(model=str(self._model(step)), revision="")
    folder = self._folder / "evaluation" / f"{step:07d}"
    link = bridge.Bridge(config, folder, self._work.store)
    requests = _requests(heldout, config, self.link.settings)
    results = link.render_and_score(requests)
    weights = rewards.dimensions(config.scorer.dimensions)
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for result in results:
      if result.answers:
        reward, groups = score_videos.reward_of(result.answers, link.questions, weights)
        for name, value in {"reward": reward, **groups}.items():
          sums[name].append(value)
    if not sums:
      raise errors.UserError(
        f"{self._work.name}: step {step}: no held-out video could be scored, the first:"
        f" {results[0].failure.reason if results[0].failure else 'missing'}"
      )
    means = {name: statistics.fmean(values) for name, values in sums.items()}
    return means | {"videos": float(len(sums["reward"]))}

  def _model(self, step: int) -> pathlib.Path:
    return trained_model.make(
      self.job.parent / "models" / f"{step:07d}",
      self.link.model,
      self._config.renderer.revision,
      self.output(step) / "transformer",
    )

  def publish(self, step: int) -> None:
    """Copies what a step made to the stage's folder."""
    lora = self._config.method == LORA
    source = self.output(step) if lora else self._model(step)
    target = self._work.folder / (LORA if lora else MODEL)
    for path in sorted(source.rglob("*")):
      if path.is_file():
        name = str(path.relative_to(source))
        with path.open("rb") as content, files.publish(target / name, "wb") as file:
          shutil.copyfileobj(content, file)


# Keys of the config that training reads.
_TRAINING = (
  "method",
  "rank",
  "alpha",
  "beta",
  "batch_size",
  "micro_batch",
  "steps",
  "peak_lr",
  "warmup",
  "beta1",
  "beta2",
  "weight_decay",
  "clip_norm",
  "seed",
  "precision",
  "gradient_checkpointing",
  "shard",
  "checkpoint_every",
  "keep",
)


def _requests(
  heldout: Sequence[contract.VideoPair],
  config: ml_collections.ConfigDict,
  settings: dict,
) -> list[bridge.Request]:
  """The first held-out prompts, with the same noise at every step."""
  by_query = config.scorer.text_role == "query"
  suffix = settings.get("prompt_suffix", "")
  prompts = {row.prompt.removesuffix(suffix): row.query for row in heldout}
  return [
    bridge.Request(
      prompt,
      score_videos.noise_seed(records.row_id("heldout", prompt), 0),
      query if by_query else prompt,
    )
    for prompt, query in list(prompts.items())[: config.evaluation_prompts]
  ]


STAGE = stages.Stage(
  name="train_diffusion_dpo",
  run=run,
  inputs=(
    stages.Input("train", "diffusion_pairs/train.jsonl"),
    stages.Input("heldout", "diffusion_pairs/heldout.jsonl"),
  ),
  execution_keys=(
    *bridge.EXECUTION_KEYS,
    "micro_batch",
    "gradient_checkpointing",
    "processes",
    "shard",
    "checkpoint_every",
    "keep",
  ),
  handles_sigterm=True,
)
