"""Systems compared on the test queries (paper, section 4; tables 1 to 4 and 6).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Each system's prompts are written and judged in <workdir>/systems/NAME, and filmed and
scored in <workdir>/evaluate; the tables are <workdir>/evaluate/README.md and
results.json. What renders and scores is set for each video model as in
configs/video_pairs.py (`--config.video_models.main.renderer.preset=...`), the teacher
(`build_sft.teacher`) and the judge (`alignment.teacher`) as in configs/teacher.py.
"""

import ml_collections

from configs import build_sft, sample, score_videos, teacher
from vpo_jax.decoder import source


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # in any form; "" is curate/test.jsonl of the workdir
  # NAME=SOURCE, worst first: "query" (the query itself), "teacher" (its few-shot
  # prompt), or a model: a directory (of the workdir, too), hub id or embedded one.
  # "vpo_2=vpo of vpo" is the model "vpo" applied to the prompts of the system "vpo":
  # the paper's iterations (section 11).
  config.systems = (
    "original=query",
    "few_shot=teacher",
    f"base={source.SMOLLM2}",
    "sft=train_sft/model",
    "vpo=vpo",
  )
  config.build_sft = build_sft.get_config()  # the teacher, where a system is one
  config.sample = sample.get_config()
  config.sample.update(
    num_candidates=1,
    temperature=0.7,  # release, inference
    top_p=1.0,  # release, inference
  )
  config.alignment = alignment = ml_collections.ConfigDict()  # the judge
  alignment.candidates = ""  # set for each system
  alignment.template = ""  # your own in place of vpo_jax/templates/alignment.txt
  alignment.teacher = teacher.get_config()

  # Each films all prompts. "main" is the one that the systems were trained for; the
  # paper's second one, Open-Sora 1.2, was never used in training (section 4.6).
  config.video_models = ml_collections.ConfigDict({"main": score_videos.get_config()})

  config.compare = compare = ml_collections.ConfigDict()
  # Measures of the scorer (`scalars`) with the limits between the four levels of
  # figure 4, such as ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12") of the
  # miniature's; a video's level is the worst of them.
  compare.levels = ()
  # Our system and the paper's method, our video model and the paper's, whose numbers
  # stand in brackets; names that a run has not do no harm.
  compare.paper = (
    "original Original Query",
    "few_shot GPT-4o Few-Shot",
    "sft VPO-SFT",
    "without_text VPO w/o TL FDBK",
    "vpo VPO",
  )
  compare.paper_models = ("main CogVideoX-2B", "second Open-Sora 1.2")
  compare.draws = 10_000  # of the bootstrap; ours
  compare.seed = 0  # of the bootstrap

  # sheet.png: so many queries' videos side by side, two of them safety-related.
  config.sheet = ml_collections.ConfigDict({"queries": 6})
  return config
