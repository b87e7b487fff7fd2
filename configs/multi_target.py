r"""One policy for several video models (docs/targets.md).

    python launch/multi_target.py --config=configs/multi_target.py:miniature \
      --workdir=runs/miniature-0

After the colon stands the config of the run whose stages are used: paper (the default)
or miniature. A finished run of it can be the workdir: its queries and SFT model are
used.
"""

import importlib

import ml_collections

from configs import miniature


def get_config(base: str = "paper") -> ml_collections.ConfigDict:
  config = importlib.import_module(f"configs.{base}").get_config()
  # The profile of each video model of `evaluate.video_models`: a name of
  # configs/targets, or a JSON file. Their notes must differ.
  config.targets = ml_collections.ConfigDict({"main": "", "second": ""})
  if base != "paper":
    for name in config.targets:
      config.targets[name] = str(miniature.WORLD / "targets" / f"{name}.json")
  # Rows of NAME=TARGET ...: a policy and the targets that it is trained for.
  config.policies = ("main=main", "second=second", "both=main second")
  return config
