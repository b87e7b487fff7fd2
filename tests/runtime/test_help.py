"""`--help` of a stage shows each config key with its default and its comment."""

import pathlib

import pytest

from vpo_jax.runtime import help as help_lib

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

# Every form that configs/ uses.
CONFIG = """
import ml_collections

def inner():
  return ml_collections.ConfigDict({
    "rank": 0,  # 0 trains all weights
    # Matrices "#1" to
    # "#4".
    "targets": ("q", "#"),
  })

def add(config):
  config.bridge = bridge = ml_collections.ConfigDict()
  bridge.workers = 0  # one per device

def get_config():
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.name = "a # b"  # not "c"
  # Sizes in pixels.
  config.width = 4
  config.height = 5

  config.depth = 6
  config.rules = rules = ml_collections.ConfigDict()
  rules.margin = 0.5  # paper
  config.lora = inner()
  config.lora.update(
    rank=8,  # changed
  )
  add(config)
  config.prices = (
    "gpt 1 2",
  )  # US dollars
  return config
"""


def test_comments_come_with_their_keys(tmp_path):
  (tmp_path / "config.py").write_text(CONFIG)
  found = {key: rest for key, *rest in help_lib.describe(tmp_path / "config.py")}
  assert found == {
    "seed": [0, ""],
    "name": ["a # b", 'not "c"'],
    "width": [4, "Sizes in pixels."],
    "height": [5, "Sizes in pixels."],
    "depth": [6, ""],
    "rules.margin": [0.5, "paper"],
    "lora.rank": [8, "changed"],
    "lora.targets": [("q", "#"), 'Matrices "#1" to "#4".'],
    "bridge.workers": [0, "one per device"],
    "prices": [("gpt 1 2",), "US dollars"],
  }


@pytest.mark.parametrize("name", [
  *("curate", "build_sft", "sft", "sample", "text_pairs", "score_videos"),
  *("video_pairs", "merge_pairs", "dpo", "export", "evaluate", "report"),
  *("quickstart", "miniature"),
])  # fmt: skip
def test_a_stages_keys_are_explained(name):
  rows = help_lib.describe(CONFIGS / f"{name}.py")
  commented = [key for key, _, comment in rows if comment]
  assert len(commented) >= 0.9 * len(rows), [key for key, _, c in rows if not c]
  lines = help_lib.text(CONFIGS / f"{name}.py").splitlines()
  shown = {line.strip().partition("=")[0] for line in lines}
  assert {key for key, _, _ in rows} <= shown
