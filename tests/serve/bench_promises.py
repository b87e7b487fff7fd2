r"""Are protected spans and the target's limit kept? Counts it on many queries.

    python tests/serve/bench_promises.py --model=smollm2-135m-instruct \
      --queries=queries.json --count=3000 --target=miniature --output=promises.json

A third of the queries each gets a text in quotes, a tag in angle brackets, or a word of
`--keep`. None of these spans, nor the form of the quotes, is in the data that
`config.curate.spans` makes. The exit status is 1 if a prompt that is returned as good
lacks its span or is longer than the target reads.
"""

import argparse
import json
import pathlib
import random
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

SIGNS = ("MIND THE GAP", "Platform 9", "Fresh Fish", "Bäckerei", "30% off")
QUOTED = '{query}; the banner says "{sign}"'
TAGS = ("<lora:arcane:0.8>", "<sks>", "<lora:film_grain:1>")
WORDS = ("zxv4", "Elphaba", "ohwx dog")
KINDS = ("quote", "tag", "word")
BLOCK = 64


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default="smollm2-135m-instruct")
  parser.add_argument("--queries", required=True, help="file, see vpo_jax.queries.read")
  parser.add_argument("--count", type=int, default=3000)
  parser.add_argument("--target", default="miniature")
  parser.add_argument("--max_new_tokens", type=int, default=160)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--output", default="")
  args = parser.parse_args()
  from vpo_jax import queries
  from vpo_jax.promises import targets
  from vpo_jax.sample import generate, lm, settings
  from vpo_jax.serve import optimize

  texts = [row.text for row in queries.load(args.queries)[0]]
  rng = random.Random(args.seed)
  chosen = rng.sample(texts, args.count)
  target = targets.load(args.target)
  model = lm.load(args.model)
  sampling = settings.Settings(max_new_tokens=args.max_new_tokens, seed=args.seed)
  drawn, stream = [0], generate.stream

  def counted(policy, prompts, *others, **options):
    drawn[0] += len(prompts)
    return stream(policy, prompts, *others, **options)

  generate.stream = counted
  report = {}
  for place, kind in enumerate(KINDS):
    rows, broken = [], 0
    drawn[0], start = 0, time.monotonic()
    mine = chosen[place :: len(KINDS)]
    for first in range(0, len(mine), BLOCK):
      block = mine[first : first + BLOCK]
      asked, span, keep = insert(kind, block, rng)
      found = optimize.optimize(model, asked, sampling, target=target, keep=keep)
      good = [row for row in found if row.problem is None]
      broken += sum(span not in r.prompt or not target.reads(r.prompt) for r in good)
      rows += found
      print(f"{kind} {len(rows)}/{len(mine)}", file=sys.stderr, flush=True)
    report[kind] = summary(rows, broken, time.monotonic() - start, drawn[0])
  result = {
    "model": pathlib.Path(args.model).name,
    "target": args.target,
    "limit": target.profile.tokens,
    "kinds": report,
  }
  print(json.dumps(result, indent=1))
  if args.output:
    pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n")
  return int(any(kind["broken"] for kind in report.values()))


def insert(
  kind: str, block: list[str], rng: random.Random
) -> tuple[list[str], str, list[str]]:
  """The queries with a span, the span, and the words of `--keep`."""
  if kind == "quote":
    span = rng.choice(SIGNS)
    return [QUOTED.format(query=text, sign=span) for text in block], span, []
  span = rng.choice(TAGS if kind == "tag" else WORDS)
  return [f"{span} {text}" for text in block], span, [span] if kind == "word" else []


def summary(rows, broken: int, seconds: float, drawn: int) -> dict[str, float]:
  """Counts of one kind of span.

  `kept` and `repaired` are spans that the model wrote and that were inserted. `fits`
  and `shortened` are prompts that the target reads as written and after they were cut.
  `unusable` prompts have a problem of the guard's. `broken` prompts are returned as
  good and break a promise.
  """
  outcomes = [how for row in rows for how in row.spans.values()]
  good = [row for row in rows if row.problem is None]
  return {
    "queries": len(rows),
    "good": len(good),
    "unusable": len(rows) - len(good),
    "broken": broken,
    "kept": outcomes.count("kept"),
    "repaired": outcomes.count("repaired"),
    "fits": sum(row.budget == "kept" for row in good),
    "shortened": sum(row.budget == "shortened" for row in good),
    "seconds_per_query": round(seconds / len(rows), 3),
    "drawn_per_query": round(drawn / len(rows), 2),
  }


if __name__ == "__main__":
  sys.exit(main())
