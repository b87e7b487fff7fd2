"""Merges text-level and video-level pairs into the data that DPO trains on.

    python launch/merge_pairs.py --config=configs/merge_pairs.py --workdir=runs/mine

Reads text_pairs/pairs.jsonl and video_pairs/pairs.jsonl; writes pairs.jsonl, train.json
and heldout.json to <workdir>/merge_pairs.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.feedback import merge

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "merge_pairs.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  merge.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  app.run(main)
