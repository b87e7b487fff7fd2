r"""Ways to learn from rendered videos, at several budgets (docs/beyond.md).

    python launch/pipeline.py --config=configs/budgets.py --workdir=runs/miniature-0
    python launch/pipeline.py --config=configs/budgets.py:dpo_500,grpo_500 \
      --workdir=runs/miniature-0

The miniature with one variant for each row, METHOD_VIDEOS; without a list, all rows. A
finished run of the miniature with the same seed can be the workdir: its candidates,
verdicts and videos are used.
"""

import ml_collections

from configs import miniature

_GROUPS = "export.trained=train_groups train_groups.loss="
# What a method changes, by its name. Learning rates are the miniature's.
METHODS = {
  "dpo": "",  # paper
  "dpo_every": "video_pairs.rules.pairing=every",  # all pairs of a query's prompts
  "plackett_luce": _GROUPS + "plackett_luce",
  "kto": _GROUPS + "kto",
  "grpo": _GROUPS + "grpo",
  "dr_grpo": _GROUPS + "dr_grpo",
  "simpo": "train_dpo.loss=simpo train_dpo.beta=2.0",
  "orpo": "train_dpo.loss=orpo train_dpo.sft_weight=1.0",
}
BUDGETS = (250, 500, 1000)  # of about 1,200 candidates that pass the critique


def get_config(rows: str = "") -> ml_collections.ConfigDict:
  config = miniature.get_config()
  config.choose.per_query = config.sample.num_candidates
  every = [f"{method}_{videos}" for videos in BUDGETS for method in METHODS]
  config.variants = tuple(_variant(row) for row in (rows.split(",") if rows else every))
  config.evaluate.systems = ("original=query", "sft=train_sft/model", "vpo=vpo")
  return config


def _variant(row: str) -> str:
  method, _, videos = row.rpartition("_")
  if method not in METHODS or not videos.isdigit():
    known = ", ".join(METHODS)
    raise ValueError(f"{row!r}: must be METHOD_VIDEOS; methods: {known}")
  return f"{row} choose.videos={videos} {METHODS[method]}"
