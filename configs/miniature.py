"""The paper's experiment in a world small enough for a CPU (docs/miniature.md).

    python launch/pipeline.py --config=configs/miniature.py --workdir=runs/miniature

Every stage runs the same code as a real run. The world's queries, video model, reward
and teacher are in torch_bridge/miniature. Each reduced number below has the paper's
number beside it. `--config.seed=1` is another run; `--config.variants` trains further
systems, each with a value changed, and compares them in the same tables.
"""

import pathlib

import ml_collections

from configs import (
  build_sft,
  choose,
  curate,
  diffusion_dpo,
  diffusion_pairs,
  dpo,
  evaluate,
  export,
  groups,
  hardware,
  merge_pairs,
  paper,
  report,
  sample,
  score_videos,
  sft,
  text_pairs,
  train_groups,
  video_pairs,
)
from vpo_jax.decoder import source

WORLD = pathlib.Path(__file__).parents[1] / "torch_bridge" / "miniature"


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # Of the order and split of the queries, of training and of sampling.
  config.seed = seed = ml_collections.config_dict.FieldReference(0)

  config.curate = curate.get_config()
  config.curate.queries = str(WORLD / "queries.jsonl")
  config.curate.seed = seed
  config.curate.sizes.update(
    sft_general=680,  # paper: 9,000
    sft_safety=200,  # paper: 1,000
    dpo_general=290,  # paper: 9,000
    dpo_safety=175,  # paper: 1,000
    test_general=110,
    test_safety=100,
  )

  config.build_sft = build_sft.get_config()
  teacher(config.build_sft.teacher)

  config.train_sft = sft.get_config()
  config.train_sft.update(
    model=source.SMOLLM2,  # 135M; paper: Llama-3-8B-Instruct
    seed=seed,
    batch_size=8,  # paper: 64
    epochs=2,  # paper: 5
  )
  shrink(config.train_sft)
  config.train_sft.optimizer.peak_lr = 2e-4  # paper: 2e-6, over 780 steps of 64

  config.sample = sample.get_config()
  config.sample.update(
    seed=seed,
    max_new_tokens=96,  # release: 2048; the teacher's prompts have about 45
    precision=hardware.precision(),
  )

  config.text_pairs = text_pairs.get_config()
  teacher(config.text_pairs.teacher)

  # With choose.videos=500, only as many candidates are rendered for training.
  config.choose = choose.get_config()
  config.choose.update(seed=seed, strategy="random")
  config.score_videos = score_videos.get_config()
  video_model(config.score_videos)
  config.video_pairs = video_pairs.get_config()
  # The paper's rules, because the release's give too few pairs from few queries.
  config.video_pairs.rules.update(
    dominance="none", pairing="adjacent", one_per_query=False
  )

  config.merge_pairs = merge_pairs.get_config()
  config.merge_pairs.seed = seed
  config.train_dpo = dpo.get_config()
  config.train_dpo.update(seed=seed, batch_size=8)  # paper: 16
  shrink(config.train_dpo)
  config.train_dpo.optimizer.peak_lr = 2e-5  # paper: 5e-7, over 310 steps of 16

  # Used by variants with export.trained=train_groups (docs/beyond.md).
  config.groups = groups.get_config()
  config.groups.seed = seed
  config.train_groups = train_groups.get_config()
  config.train_groups.update(seed=seed, batch_size=8)
  shrink(config.train_groups)
  config.train_groups.optimizer.peak_lr = 2e-5

  config.export = export.get_config()
  config.export.note = (
    "Trained in the miniature, a small world in which one to three shapes move. This"
    " model knows that world only."
  )
  config.report = report.get_config()
  config.report.max_new_tokens = 96
  config.variants = (paper.WITHOUT_TEXT,)

  # Also train the video model and compare as in figure 5, in ten minutes more; `make
  # miniature` does.
  config.diffusion_dpo = False
  config.diffusion_pairs = pairs = diffusion_pairs.get_config()
  video_model(pairs)
  pairs.seed = seed
  # Of so few pairs, enough to measure the reward on.
  pairs.heldout = 0.15
  # The world's videos of a prompt differ less than real ones.
  pairs.rules.update(margin=0.2, dominance="none")
  config.train_diffusion_dpo = diffusion = diffusion_dpo.get_config()
  video_model(diffusion)
  diffusion.update(
    seed=seed,
    rank=16,  # MaskDPO: 128, for a model 600 times as large
    alpha=32,
    batch_size=16,  # VisionReward: 32
    micro_batch=16,
    steps=160,  # VisionReward: 500
    warmup=20,  # VisionReward: 100
    peak_lr=5e-4,  # MaskDPO: 1e-5. With 1e-4 the margin was 0.02 after 34 steps
    precision="float32",
    gradient_checkpointing=False,
    evaluation_prompts=32,
  )

  config.evaluate = evaluate.get_config()
  names = list(config.evaluate.systems)
  names.insert(2, f"base={source.SMOLLM2}")
  config.evaluate.systems = tuple(names) + tuple(
    f"vpo_{i}=vpo of vpo{f'_{i - 1}' if i > 2 else ''}"  # paper, section 11
    for i in (2, 3, 4)
  )
  config.evaluate.note = "The miniature world: a stand-in for the paper's models."
  teacher(config.evaluate.build_sft.teacher)
  teacher(config.evaluate.alignment.teacher)
  config.evaluate.sample.update(
    seed=seed, max_new_tokens=96, precision=hardware.precision()
  )
  video_model(config.evaluate.video_models.main)
  # Of another size and seed; no policy is trained for it (paper, section 4.6).
  config.evaluate.video_models.second = score_videos.get_config()
  video_model(config.evaluate.video_models.second, "second_preset.json")
  config.evaluate.compare.levels = LEVELS
  return config


# Shares of blood and fire in a frame that separate the safety levels (figure 4).
LEVELS = ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12")


def teacher(config: ml_collections.ConfigDict) -> None:
  """The rule-based teacher that knows the world's words, in place of GPT-4o."""
  config.server = "torch_bridge.miniature.server"
  config.server_options = {  # rates of its errors: torch_bridge/miniature/teacher.py
    "missed": 0.2,
    "harm_left": 0.9,
    "overdone": 0.15,
    "opened": 0.05,
    "overlooked": 0.03,
    "harm_overlooked": 0.8,
  }
  config.api_key_env = ""
  config.model = "miniature-rules"
  config.prices = ("miniature-rules 0 0",)


def video_model(config: ml_collections.ConfigDict, preset: str = "preset.json") -> None:
  """Renders with the miniature's video model and scores with its measured reward."""
  config.renderer.preset = str(WORLD / preset)
  config.renderer.batch = 16
  config.scorer.name = "torch_bridge.miniature.scorer"
  config.scorer.questions = str(WORLD / "checklist.json")
  config.bridge.shard = 64  # a video takes 0.1 s; small shards add overhead


def shrink(config: ml_collections.ConfigDict) -> None:
  """Settings for a CPU: little memory, small micro-batches, few checkpoints."""
  config.update(
    precision=hardware.precision(),
    remat="cheap",  # so that 10 GB of memory are enough
    micro_tokens=1024,
    shapes=1,  # in so few steps a second shape does not repay its compilation
    eval_every=1000,  # at the start and the end only
    checkpoint_every=20,  # a killed run loses a minute or two
    keep_checkpoints=1,
  )
  config.mesh.update(data=1, fsdp=1, tensor=1, devices=1)
