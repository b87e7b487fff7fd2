"""Few-shot generation of a prompt from a query (paper, section 3.2 and figure 7)."""

import random
from collections.abc import Sequence

from vpo_jax import records, templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal


async def generate(
  ask: ask_lib.Ask,
  query: str,
  *,
  template: str,
  demonstrations: Sequence[templates.Demonstration],
  shots: int,
  seed: int,
) -> str:
  """p: the prompt that the teacher writes for a query.

  Figure 7 shows prompts alone; here each demonstration has its query too.

  Args:
    demonstrations: what to draw from; which `shots` of them are shown, and in what
      order, depends on the seed and the query alone.

  Raises:
    ask.NoAnswer: the teacher refused, failed, or left out the markers.
  """
  draw = random.Random(records.row_id(seed, query))
  shown = templates.show(draw.sample(demonstrations, min(shots, len(demonstrations))))
  content = templates.fill(template, demonstrations=shown, query=query)
  messages: list[journal.Message] = [{"role": "user", "content": content}]
  prompt, _ = await ask(messages, templates.marked)
  return paragraph(prompt)


def paragraph(prompt: str) -> str:
  """The single paragraph that the templates ask for, where a reply broke the line."""
  return " ".join(prompt.split())
