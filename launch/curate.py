"""Curates users' queries into an SFT half, a DPO half and a test set.

    python launch/curate.py --config=configs/curate.py \
      --config.input=queries.json --workdir=runs/mine

Writes sft.jsonl, dpo.jsonl, test.jsonl, set_aside.jsonl, rows.parquet and the data card
README.md to <workdir>/curate. With --config.safety.judge=True a model looks at the
safety-related candidates (safety.jsonl).
"""

import functools
import pathlib

from absl import flags
from etils import epath
from ml_collections import config_flags

from vpo_jax import app
from vpo_jax.curate import curate

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "curate.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)


def main() -> None:
  config, workdir = _CONFIG.value, epath.Path(_WORKDIR.value)
  judge = None
  if config.safety.judge:
    from vpo_jax.teacher import safety  # The client is imported only where it is used.

    judge = functools.partial(
      safety.judge,
      config=config.teacher,
      template=config.safety.template,
      folder=workdir / "curate",
    )
  curate.run(config, workdir, judge)


if __name__ == "__main__":
  app.run(main)
