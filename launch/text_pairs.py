"""Judges every sampled candidate and makes text-level preference pairs.

    python launch/text_pairs.py --config=configs/text_pairs.py --workdir=runs/mine

Reads <workdir>/sample/candidates.jsonl; writes judged.jsonl, pairs.jsonl,
set_aside.jsonl and the journal of all replies to <workdir>/text_pairs.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.feedback import text_pairs

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "text_pairs.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  text_pairs.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  app.run(main)
