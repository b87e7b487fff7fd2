"""Samples K candidates for every query of the DPO half.

    python launch/sample.py --workdir=runs/mine [--config.num_candidates=4 ...]

Several processes may share a workdir: give each --share=0/4, --share=1/4, ...
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vpo_jax import app, console, errors
from vpo_jax.sample import stage

_DEFAULT = pathlib.Path(__file__).parents[1] / "configs" / "sample.py"
_CONFIG = config_flags.DEFINE_config_file("config", str(_DEFAULT), "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where all stages write.", required=True
)
_SHARE = flags.DEFINE_string(
  "share", "0/1", "i/n: make every n-th query, from the i-th"
)


def main() -> None:
  index, _, count = _SHARE.value.partition("/")
  if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
    raise errors.UserError(f"--share={_SHARE.value}: wants i/n with i < n, as 0/4")
  counts = stage.run(_CONFIG.value, _WORKDIR.value, (int(index), int(count)))
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


if __name__ == "__main__":
  app.run(main)
