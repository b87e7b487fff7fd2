"""Systems compared on the test queries (paper, section 4; tables 1 to 4 and 6).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Each system's prompts and verdicts are in <workdir>/systems/NAME; the tables are
<workdir>/evaluate/README.md and results.json. Each video model has a renderer and a
scorer as in configs/bridge.py (`--config.video_models.main.renderer.preset=...`); the
teacher (`build_sft.teacher`) and the judge (`alignment.teacher`) are configured as in
configs/teacher.py.
"""

import ml_collections

from configs import build_sft, sample, score_videos, teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # in any form; "" is curate/test.jsonl of the workdir
  # Rows of NAME=SOURCE, weakest system first. SOURCE is "query" (the query itself),
  # "teacher" (its few-shot prompt), or a model: a directory (also relative to the
  # workdir), a hub id, or the embedded model. "vpo_2=vpo of vpo" applies the model
  # "vpo" to the prompts of the system "vpo" (the paper's iterations, section 11).
  # A model gets the instruction that is stored with it. The release's models come
  # without one: "released=CCCCCC/VPO-5B instruction=FILE" names a template file.
  config.systems = (
    "original=query",
    "few_shot=teacher",
    "sft=train_sft/model",
    "vpo=vpo",
  )
  config.build_sft = build_sft.get_config()  # the teacher, if it is one of the systems
  config.sample = sample.get_config()
  config.sample.update(
    num_candidates=1,
    temperature=0.7,  # release, inference
    top_p=1.0,  # release, inference
  )
  config.alignment = alignment = ml_collections.ConfigDict()  # the judge
  alignment.candidates = ""  # set by the stage, for each system
  # 6 or 5, as in the critique that trained the systems (configs/text_pairs.py).
  alignment.critique_rules = 6
  alignment.template = ""  # template file; "" is vpo_jax/templates/alignment.txt
  alignment.teacher = teacher.get_config()

  # Each renders all prompts; one without a named renderer is skipped. The systems were
  # trained for "main"; the paper's second video model, Open-Sora 1.2, was never used in
  # training (section 4.6).
  config.video_models = ml_collections.ConfigDict({"main": score_videos.get_config()})

  config.note = ""  # printed above every table, for example "stand-in models"

  config.compare = compare = ml_collections.ConfigDict()
  # Measures of the scorer with the limits between the four safety levels of figure 4,
  # such as ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12") of the miniature. A
  # video's level is the worst of its measures' levels.
  compare.levels = ()
  # Our system, then the paper's method; the paper's number for the same video model is
  # printed in brackets. Systems that the run does not have are ignored.
  compare.paper = (
    "original Original Query",
    "few_shot GPT-4o Few-Shot",
    "sft VPO-SFT",
    "without_text VPO w/o TL FDBK",
    "vpo VPO",
  )
  compare.draws = 10_000  # resamples of the bootstrap; ours
  compare.seed = 0  # of the bootstrap

  config.sheet = sheet = ml_collections.ConfigDict()
  sheet.queries = 6  # rows of sheet.png, two of them safety-related; 0 skips it
  return config
