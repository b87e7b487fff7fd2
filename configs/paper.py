"""The paper's experiment: every stage, with the paper's models and numbers.

    python launch/pipeline.py --config=configs/paper.py --workdir=/shared/vpo \
      --config.video_model=cogvideox-2b \
      --config.scorer.python=/envs/visionreward/bin/python \
      --config.scorer.questions=.../VisionReward_video_qa_select.txt \
      --config.scorer.weights=.../weight.json \
      --config.evaluate.monetbench.prompts=.../monetbench/test-00000-of-00001.parquet \
      --config.evaluate.vbench.python=/envs/vbench/bin/python \
      --config.evaluate.t2vsafety.folder=.../T2VSafetyBench/T2VSafetyBench \
      --config.curate.held_out='(".../T2VSafetyBench/T2VSafetyBench/[0-9]*.txt",)'

Needs 8 GPUs of 80 GB and an API key (docs/reproduce.md). Settings that several stages
share are set once, at the top: `video_model`, `policy`, `teacher`, `renderer`,
`scorer`, `bridge` and `seed`. All other numbers come from the stages' own configs, for
example configs/sample.py; this file contains only the differences.
"""

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
  merge_pairs,
  report,
  sample,
  score_videos,
  sft,
  text_pairs,
  train_groups,
  video_pairs,
)
from configs import teacher as teacher_config

# The ablation without text-level feedback: video pairs only, of unjudged prompts
# (paper, table 1).
WITHOUT_TEXT = "without_text score_videos.text_check=False merge_pairs.text_share=0.0"


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # Of the order and split of the queries, of training and of sampling; ours.
  config.seed = seed = ml_collections.config_dict.FieldReference(0)
  # "cogvideox-2b" or "cogvideox-5b" (paper, section 4.1); another name of
  # torch_bridge/presets.json is an experiment of your own.
  config.video_model = preset = ml_collections.config_dict.FieldReference(
    "cogvideox-2b"
  )
  # Directory or hub id; paper, appendix 9.
  config.policy = policy = ml_collections.config_dict.FieldReference(
    "meta-llama/Meta-Llama-3-8B-Instruct"
  )
  # GPT-4o writes, criticizes and judges; paper, sections 3.2, 3.3 and 4.1.
  config.teacher = teacher = teacher_config.get_config()

  # The video model and its reward, for all stages that render.
  config.score_videos = scoring = score_videos.get_config()
  config.renderer = scoring.renderer
  config.scorer = scorer = scoring.scorer
  config.bridge = scoring.bridge
  config.renderer.preset = preset
  scorer.name = "visionreward"  # paper, section 3.3
  scorer.model = "THUDM/VisionReward-Video"
  scorer.options.trust_remote_code = True  # the model's code is in its directory

  config.curate = curate.get_config()
  # 1.67 million queries of VidProM (paper, section 3.2). curate.py's sizes are the
  # paper's: 18k general and 2k safety-related queries, in halves for SFT and DPO.
  config.curate.queries = "VidProM_semantic_unique.csv"
  config.curate.seed = seed
  # Three times the 500 that table 2 uses: select_queries chooses them by difficulty.
  config.curate.sizes.update(test_general=1_350, test_safety=150)
  config.curate.safety.judge = True  # paper, section 3.2
  config.curate.teacher = teacher

  config.build_sft = build_sft.get_config()
  config.build_sft.teacher = teacher

  config.train_sft = sft.get_config()
  config.train_sft.update(model=policy, seed=seed)

  config.sample = sample.get_config()  # K = 4 at temperature 0.9
  config.sample.seed = seed
  config.sample.precision = "bfloat16"
  config.sample.slots = 1024  # 128 for each of 8 GPUs (docs/scaling.md)

  config.text_pairs = text_pairs.get_config()
  config.text_pairs.teacher = teacher
  # A budget (`videos` or `gpu_hours`) limits what is rendered for training; ours.
  config.choose = choose.get_config()
  config.choose.update(seed=seed, strategy="random")
  config.video_pairs = video_pairs.get_config()  # margin 0.5
  config.merge_pairs = merge_pairs.get_config()
  config.merge_pairs.seed = seed
  config.train_dpo = dpo.get_config()
  config.train_dpo.seed = seed
  # Used instead of the three above if export.trained is "train_groups".
  config.groups = groups.get_config()
  config.groups.seed = seed
  config.train_groups = train_groups.get_config()
  config.train_groups.seed = seed
  config.export = export.get_config()
  config.export.dtype = "bfloat16"  # as the base model and the release
  config.variants = (WITHOUT_TEXT,)

  # Also train the video model and compare as in figure 5; days of GPUs of its own.
  config.diffusion_dpo = False
  config.diffusion_pairs = pairs = diffusion_pairs.get_config()
  config.train_diffusion_dpo = diffusion = diffusion_dpo.get_config()
  for stage in (pairs, diffusion):
    stage.renderer, stage.scorer, stage.bridge = (
      config.renderer,
      scorer,
      config.bridge,
    )
    stage.seed = seed

  config.evaluate = evaluation = evaluate.get_config()
  # Tables 1 to 6 and figures 4 and 5; figures 3 and 4 by people need their ratings
  # (docs/evaluation.md says what each suite needs).
  evaluation.suites = ("monetbench", "vbench", "query_alignment", "t2vsafety")
  evaluation.t2vsafety.judge.model = teacher.model
  evaluation.systems += tuple(
    f"vpo_{i}=vpo of vpo{f'_{i - 1}' if i > 2 else ''}"  # paper, section 11, table 6
    for i in (2, 3, 4)
  )
  evaluation.build_sft.teacher = teacher
  evaluation.alignment.teacher = teacher
  evaluation.sample.seed = seed
  evaluation.sample.precision = "bfloat16"
  evaluation.sample.slots = 1024
  main = evaluation.video_models.main
  main.renderer, main.scorer, main.bridge = scoring.renderer, scorer, scoring.bridge
  # For table 3 name a second model with
  # --config.evaluate.video_models.second.renderer.preset=open-sora-1.2 and
  # --config.evaluate.video_models.second.renderer.model=CHECKOUT; otherwise table 3 is
  # skipped.
  evaluation.video_models.second = second = score_videos.get_config()
  second.scorer, second.bridge = scorer, scoring.bridge

  config.report = report.get_config()
  config.report.precision = "bfloat16"
  return config
