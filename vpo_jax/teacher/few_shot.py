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
  notes: str = "",
) -> str:
  """Returns p, the prompt that the teacher writes for a query.

  Figure 7 shows prompts only; here each demonstration includes its query.

  Args:
    demonstrations: the pool of demonstrations.
    shots: how many of them are shown. The seed and the query determine which ones, and
      their order.
    notes: of the target.

  Raises:
    ask.NoAnswer: the teacher refused, failed, or left out the markers.
  """
  rng = random.Random(records.row_id(seed, query))
  shown = rng.sample(demonstrations, min(shots, len(demonstrations)))
  content = templates.fill(
    template,
    demonstrations=templates.format_demonstrations(shown),
    query=query,
    notes=notes,
  )
  messages: list[journal.Message] = [{"role": "user", "content": content}]
  prompt, _ = await ask(messages, templates.marked_text)
  return paragraph(prompt)


def paragraph(prompt: str) -> str:
  """Joins the lines of a prompt; the templates ask for a single paragraph."""
  return " ".join(prompt.split())
