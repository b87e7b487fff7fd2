r"""Films several prompts for each query and keeps the one with the best videos.

    python launch/film.py --config=configs/film.py:quickstart --workdir=runs/films \
      --config.queries=queries.txt --config.sample.model=runs/quickstart/vpo

Writes <workdir>/film.jsonl: each query's best prompt, and all of its prompts with their
rewards and videos. A killed run continues. With --config.rounds=3 the best prompt is
rewritten and filmed again while its reward grows (docs/beyond.md).
"""

from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_pipeline("film.py", "vpo_jax.film")
