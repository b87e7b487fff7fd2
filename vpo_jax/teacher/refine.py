"""Refinement of a flawed prompt by its critique (paper, section 3.2 and figure 8)."""

from vpo_jax import templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import critique as critique_lib
from vpo_jax.teacher import journal


async def refine(
  ask: ask_lib.Ask, critique: critique_lib.Critique, *, template: str
) -> str:
  """Returns the refined prompt, requested in the chat that produced the critique.

  The text is returned as the teacher wrote it and may have several lines.

  Raises:
    ask.NoAnswer: the teacher refused, failed, or left out the markers.
  """
  messages: list[journal.Message] = [
    {"role": "user", "content": critique.request},
    {"role": "assistant", "content": critique.text},
    {"role": "user", "content": template},
  ]
  prompt, _ = await ask(messages, templates.marked_text)
  return prompt
