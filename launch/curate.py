"""Curates users' queries into an SFT half, a DPO half and a test set.

    python launch/curate.py --config=configs/curate.py \
      --config.input=queries.json --workdir=runs/mine

Writes sft.jsonl, dpo.jsonl, test.jsonl, set_aside.jsonl and rows.parquet to
<workdir>/curate.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.curate import curate

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "curate.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  curate.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  app.run(main)
