"""Links scored videos under the names that VBench expects: `{query}-{0..4}.mp4`.

    python launch/vbench.py --workdir=runs/vbench --out=videos/vpo

First run sample with VBench's prompts as queries (--config.queries=prompts.txt
--config.num_candidates=1), then score_videos (--config.videos_per_prompt=5
--config.text_check=False).
"""

from absl import flags
from etils import epath

from vpo_jax.runtime import app, console

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The folder that all stages share.", required=True
)
_STORE = flags.DEFINE_string("store", "", "The store of videos; '' is <workdir>/store.")
_OUT = flags.DEFINE_string(
  "out", None, "The folder to write, one per model.", required=True
)


def main() -> None:
  from vpo_jax.evaluate.vbench import layout

  workdir = epath.Path(_WORKDIR.value)
  scores = workdir / "score_videos" / "scores.jsonl"
  videos = layout.scored(scores, _STORE.value or workdir / "store")
  layout.lay_out(videos, _OUT.value)
  queries = {query for query, _ in videos}
  console.say(f"queries={len(queries)} videos={len(videos)}")


if __name__ == "__main__":
  app.run(main)
