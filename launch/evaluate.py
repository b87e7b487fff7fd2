"""Compares systems on the test queries: rewards, alignment, safety (paper, section 4).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Writes <workdir>/evaluate/README.md and results.json. Killed and run again, it goes on
where it was.
"""

import ml_collections
from etils import epath

from vpo_jax import app, console, errors
from vpo_jax.evaluate import compare, systems
from vpo_jax.feedback import text_pairs, video_pairs


def evaluate(config: ml_collections.ConfigDict, workdir: str) -> None:
  named = [row.partition("=")[::2] for row in config.systems]
  if not all(name and source for name, source in named):
    raise errors.UserError(f"config.systems={config.systems!r}: wants NAME=SOURCE each")
  queries = epath.Path(config.queries or epath.Path(workdir) / "curate" / "test.jsonl")
  # All prompts first: a wrong model or a missing key is found before any filming.
  for name, source in named:
    console.say(f"{name}: prompts")
    inside = epath.Path(workdir) / source
    source = str(inside) if inside.exists() else source
    systems.write(source, config, queries, compare.folder(workdir, name))
  for name, _ in named:
    console.say(f"{name}: judgements and videos")
    text_pairs.run(config.text_pairs, compare.folder(workdir, name))
    video_pairs.run(config.video_pairs, compare.folder(workdir, name))
  config.compare.systems = tuple(name for name, _ in named)
  compare.run(config.compare, workdir)


if __name__ == "__main__":
  app.run_stage(evaluate, "evaluate.py")
