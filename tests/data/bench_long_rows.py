"""Padding and shared tokens of long prompts, many responses and long rows.

    python tests/data/bench_long_rows.py

Prints a table. Packs examples of random lengths as training does; nothing is compiled.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from vpo_jax.data import forest, order, packing
from vpo_jax.plan import models

STEPS, BATCH, STEM = 8, 16, 190
# Name, mean tokens of a query (or of the turns before the answer) and of a response,
# responses of an example, tokens of a micro-batch.
CASES = (
  ("SFT", 20, 130, 1, 4096),
  ("SFT, 6 turns before the answer", 900, 130, 1, 4096),
  ("SFT, long answers", 20, 2500, 1, 8192),
  ("DPO", 20, 130, 2, 4096),
  ("DPO, 6 turns before the answers", 900, 130, 2, 4096),
  ("DPO, long prompts", 4000, 130, 2, 8192),
  ("groups of 4", 20, 130, 4, 4096),
  ("groups of 8", 20, 130, 8, 4096),
  ("groups of 16", 20, 130, 16, 8192),
  ("groups of 16, long prompts", 2000, 130, 16, 8192),
)


def measure(query: int, response: int, responses: int, micro_tokens: int):
  """The longest micro-batch's row, tokens of plain rows and of the forest, padding."""
  lengths = models.Lengths(STEM, query, response)
  count = STEPS * BATCH
  examples = models.examples(lengths, responses, count)
  plan = packing.plan(
    examples,
    order.batches(count, BATCH, 1, 0, shuffle=False),
    groups=1,
    budget=micro_tokens,
    flops_per_token=models.read("llama3-8b").flops_per_token,
  )
  plain = sum(len(e.prompt) + len(r) - 1 for e in examples for r in e.responses)
  shared = sum(
    forest.stem_tokens(examples, rows, shape.stem)
    + sum(forest.tree_tokens(examples[i], shape.stem) for row in rows for i in row)
    for shape, micros in zip(plan.shapes, plan.steps, strict=True)
    for micro in micros
    for rows in micro
  )
  longest = max(shape.stem + shape.rows * shape.row for shape in plan.shapes)
  return longest, plain, shared, plan.padding


def main() -> None:
  print("| rows | tokens at once | plain rows' tokens | the forest's | padding |")
  print("| --- | --- | --- | --- | --- |")
  for name, *sizes in CASES:
    longest, plain, shared, padding = measure(*sizes)
    print(f"| {name} | {longest} | {plain} | {shared / plain:.0%} | {padding:.1%} |")


if __name__ == "__main__":
  main()
