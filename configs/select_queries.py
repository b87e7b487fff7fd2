"""Test queries of all levels of difficulty, for table 2 (paper, section 4.1, app. 9).

    python launch/select_queries.py --config=configs/select_queries.py \
      --workdir=runs/mine
    # check runs/mine/select_queries/queries.jsonl by hand, then
    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine \
      --config.suites='("query_alignment",)' \
      --config.query_alignment.queries=runs/mine/select_queries/queries.jsonl
"""

import ml_collections

from configs import curate, teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # "" is curate/test.jsonl of the workdir, which nothing trains on
  config.count = 500  # paper, section 4.1
  config.seed = 0
  config.near = curate.get_config().near
  config.template = ""  # template file; "" is vpo_jax/templates/difficulty.txt
  config.teacher = teacher.get_config()
  return config
