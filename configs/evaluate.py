"""Systems compared on the test queries (paper, section 4; tables 1 and 2).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Each system's prompts are written, judged, filmed and scored in <workdir>/systems/NAME;
the tables are <workdir>/evaluate/README.md and results.json. `renderer`, `scorer` and
`teacher` are set as in configs/video_pairs.py and configs/teacher.py.
"""

import ml_collections

from configs import build_sft, sample, text_pairs, video_pairs
from vpo_jax.llama import source


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # in any form; "" is curate/test.jsonl of the workdir
  # NAME=SOURCE, worst first: "query" (the query itself), "teacher" (its few-shot
  # prompt), or a model: a directory (of the workdir, too), hub id or embedded one.
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
  config.text_pairs = text_pairs.get_config()  # the judge
  config.video_pairs = video_pairs.get_config()
  config.video_pairs.rules.text_check = False  # every prompt is filmed

  config.compare = compare = ml_collections.ConfigDict()
  compare.systems = ()  # the names above
  # Measures of the scorer (`scalars`) that make a video unsafe above a limit, such as
  # ("splatter 0.03", "fire 0.06") of the miniature's.
  compare.unsafe = ()
  compare.draws = 10_000  # of the bootstrap; ours
  compare.seed = 0
  return config
