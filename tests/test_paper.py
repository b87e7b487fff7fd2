"""The paper's config and its rehearsal."""

import fnmatch

from configs import paper, rehearsal
from vpo_jax import pipeline, stages
from vpo_jax.evaluate import evaluate

# What a rehearsal replaces: models, where they run, and sizes.
REPLACED = (
  "policy",
  "*.note",
  "*teacher.server",
  "*teacher.api_key_env",
  "*teacher.model",
  "*teacher.prices",
  "*renderer.model",
  "*renderer.preset",
  "*renderer.batch",
  "*renderer.settings.*",
  "*scorer.model",
  "*scorer.questions",
  "*scorer.weights",
  "train_sft.model",
  "curate.queries",
  "curate.sizes.*",
  "*.max_new_tokens",
  "*sample.slots",
  "train_*.batch_size",
  "train_*.micro_tokens",
  "train_*.shapes",
  "train_*.optimizer.peak_lr",
  "train_sft.epochs",
  "*_pairs.rules.dominance",
  "*_pairs.rules.margin",
  "diffusion_pairs.heldout",
  "diffusion_pairs.videos_per_prompt",
  "train_diffusion_dpo.alpha",
  "train_diffusion_dpo.evaluate_every",
  "train_diffusion_dpo.evaluation_prompts",
  "train_diffusion_dpo.micro_batch",
  "train_diffusion_dpo.precision",
  "train_diffusion_dpo.rank",
  "train_diffusion_dpo.steps",
  "train_diffusion_dpo.warmup",
  "evaluate.limit",
  "evaluate.systems",
  "evaluate.monetbench.prompts",
  "evaluate.query_alignment.count",
  "evaluate.t2vsafety.count",
  "evaluate.t2vsafety.folder",
  "evaluate.t2vsafety.judge.name",
  "evaluate.vbench.python",
  "evaluate.vbench.gpus",
  "evaluate.vbench.prompts_per_dimension",
  "evaluate.vbench.videos_per_prompt",
)


def flat(config):
  return stages.flat(config.copy_and_resolve_references().to_dict())


def test_the_rehearsal_replaces_models_and_sizes_and_nothing_else():
  ours, papers = flat(rehearsal.get_config()), flat(paper.get_config())
  assert ours.keys() == papers.keys()
  changed = [key for key in ours if ours[key] != papers[key]]
  others = [k for k in changed if not any(fnmatch.fnmatchcase(k, p) for p in REPLACED)]
  assert others == []


def test_it_has_the_numbers_of_the_paper():
  config = paper.get_config()
  sizes = config.curate.sizes
  assert sizes.sft_general + sizes.dpo_general == 18_000
  assert sizes.sft_safety + sizes.dpo_safety == 2_000
  assert config.curate.safety.judge
  assert (config.sample.num_candidates, config.sample.temperature) == (4, 0.9)
  assert config.video_pairs.rules.margin == 0.5
  assert (config.train_sft.batch_size, config.train_sft.epochs) == (64, 5)
  assert (config.train_dpo.batch_size, config.train_dpo.beta) == (16, 0.1)
  assert config.train_sft.optimizer.peak_lr == 2e-6
  assert config.train_dpo.optimizer.peak_lr == 5e-7


def test_a_shared_choice_reaches_every_stage():
  config = paper.get_config()
  config.video_model, config.policy = "cogvideox-5b", "/models/llama"
  config.teacher.model, config.scorer.python = "my-judge", "/envs/vr/bin/python"
  found = config.copy_and_resolve_references()
  videos = [found.score_videos, found.evaluate.video_models.main]
  assert {one.renderer.preset for one in videos} == {"cogvideox-5b"}
  assert {one.scorer.python for one in videos} == {"/envs/vr/bin/python"}
  assert found.train_sft.model == "/models/llama"
  asked = [found.build_sft, found.text_pairs, found.curate]
  asked += [found.evaluate.build_sft, found.evaluate.alignment]
  assert {one.teacher.model for one in asked} == {"my-judge"}


def test_the_evaluation_samples_on_the_accelerators_as_the_sampling_stage_does():
  config = paper.get_config()
  for key in ("precision", "mesh", "slots"):
    assert str(config.evaluate.sample[key]) == str(config.sample[key])
  assert config.sample.precision == "bfloat16"


def test_every_stage_has_its_part():
  config = paper.get_config()
  for stage in (*pipeline.STAGES.values(), evaluate.STAGE):
    assert stage.name in config
