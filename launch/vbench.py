"""Lays rendered videos out as VBench wants them: `{query}-{0..4}.mp4` in one folder.

    python launch/vbench.py --workdir=runs/vbench --out=videos/vpo

Run sample and video_pairs before, with VBench's prompts as queries:
--config.queries=prompts.txt --config.num_candidates=1 for the one, and
--config.videos_per_prompt=5 --config.rules.text_check=False for the other.
"""

import pathlib

from absl import flags

from vpo_jax.runtime import app, console

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The folder that all stages share.", required=True
)
_STORE = flags.DEFINE_string("store", "", "The bridge's store; '' is the stage's own.")
_OUT = flags.DEFINE_string("out", None, "One folder a model.", required=True)


def main() -> None:
  from vpo_jax.feedback import vbench

  folder = pathlib.Path(_WORKDIR.value) / "video_pairs"
  store = _STORE.value or folder / "store"
  counts = vbench.lay_out(folder / "scores.jsonl", store, _OUT.value)
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


if __name__ == "__main__":
  app.run(main)
