"""Builds SFT examples: few-shot prompt, critique, refinement by the teacher.

    python launch/build_sft.py --config=configs/build_sft.py --workdir=runs/mine

Reads <workdir>/curate/sft.jsonl; writes examples.jsonl, train.json, heldout.json,
set_aside.jsonl and the journal of all replies to <workdir>/build_sft.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.teacher import build_sft

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "build_sft.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  build_sft.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  app.run(main)
