"""Renders and scores the candidates that passed, and makes video-level pairs.

    python launch/video_pairs.py --config=configs/video_pairs.py --workdir=runs/mine

Reads sample/candidates.jsonl and text_pairs/judged.jsonl; writes videos, scores.jsonl,
pairs.jsonl and set_aside.jsonl to <workdir>/video_pairs.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.feedback import video_pairs

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "video_pairs.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  video_pairs.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  app.run(main)
