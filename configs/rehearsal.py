"""The paper's config with tiny random models, to test that the stages work together.

    make rehearsal

Everything that is not set here is as in configs/paper.py. `tests.rehearsal.inputs`
makes models with the classes, formats and file layouts of the real ones, and a few
queries. The rewards mean nothing, and every table says so.
"""

import pathlib

import ml_collections

from configs import paper

INPUTS = pathlib.Path("runs/rehearsal-inputs")


def get_config() -> ml_collections.ConfigDict:
  config = paper.get_config()
  config.evaluate.note = (
    "Rehearsal: tiny models with random weights. The numbers mean nothing."
  )

  # Models.
  config.policy = str(INPUTS / "policy")
  config.teacher.update(
    server="tests.rehearsal.teacher",
    api_key_env="",
    model="rehearsal-script",
    prices=("rehearsal-script 2.50 10.00",),
  )
  config.renderer.model = str(INPUTS / "tiny-cogvideox-2b")
  config.renderer.batch = 4
  config.scorer.model = str(INPUTS / "visionreward")
  config.scorer.questions = str(
    INPUTS / "visionreward" / "VisionReward_video_qa_select.txt"
  )
  config.scorer.weights = str(INPUTS / "visionreward" / "weight.json")
  first, *others = config.evaluate.systems
  long = f"long=prompts {INPUTS / 'vbench' / 'long.jsonl'}"  # table 5
  # One iteration of the paper's three, to save time.
  config.evaluate.systems = (first, long, *others[:-2])
  config.evaluate.monetbench.prompts = str(INPUTS / "monetbench.parquet")
  config.evaluate.t2vsafety.folder = str(INPUTS / "t2vsafetybench")
  config.evaluate.t2vsafety.count = 16
  config.evaluate.t2vsafety.judge.name = "tests.rehearsal.safety_level"
  config.evaluate.vbench.update(
    python=str(INPUTS / "vbench" / "python"),
    gpus=0,
    prompts_per_dimension=1,
    videos_per_prompt=2,
  )
  config.evaluate.query_alignment.count = 6
  config.evaluate.limit = 6
  second = config.evaluate.video_models.second
  second.renderer.preset = "cogvideox-5b"
  second.renderer.model = str(INPUTS / "tiny-cogvideox-5b")
  second.renderer.batch = 4
  for renderer in (config.renderer, second.renderer):
    renderer.settings.update(height=32, width=48, num_frames=9, num_inference_steps=2)

  # Sizes.
  config.curate.queries = str(INPUTS / "vidprom.csv")
  config.curate.sizes.update(
    sft_general=28,
    sft_safety=4,
    dpo_general=14,
    dpo_safety=2,
    test_general=6,
    test_safety=2,
  )
  for stage in (config.sample, config.evaluate.sample):
    stage.slots = 32
  for stage in (config.sample, config.evaluate.sample, config.report):
    stage.max_new_tokens = 24
  for stage in (config.train_sft, config.train_dpo, config.train_groups):
    stage.update(batch_size=8, micro_tokens=1024, shapes=1)
    stage.optimizer.peak_lr = 3e-3  # so that few steps change what the model writes
  config.train_sft.epochs = 1

  # Used if the video model is trained too (`make rehearsal DIFFUSION_DPO=True`).
  config.diffusion_pairs.update(videos_per_prompt=2, heldout=0.2)
  config.diffusion_pairs.rules.update(dominance="none", margin=0.0)
  config.train_diffusion_dpo.update(
    rank=4,
    alpha=8,
    batch_size=4,
    micro_batch=4,
    steps=4,
    warmup=1,
    evaluate_every=4,
    evaluation_prompts=2,
    precision="float32",
  )
  config.video_pairs.rules.update(dominance="none", margin=0.0)
  return config
