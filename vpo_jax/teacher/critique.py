"""The judge: does a prompt fit its query? (paper, section 3.2 and figure 8)"""

import dataclasses

from vpo_jax import templates
from vpo_jax.teacher import journal, queue


@dataclasses.dataclass(frozen=True)
class Critique:
  """A judge's answer.

  Attributes:
    request: what the judge was asked; refinement goes on from it.
    text: c, the whole reply.
    passed: the final judgement was Yes.
  """

  request: str
  text: str
  passed: bool


async def judge(ask: queue.Ask, query: str, prompt: str, *, template: str) -> Critique:
  """Critiques a prompt by the rules of the template.

  Raises:
    client.NoAnswer: the judge refused, failed, or gave no judgement.
  """
  request = templates.fill(template, query=query, prompt=prompt)
  messages: list[journal.Message] = [{"role": "user", "content": request}]
  passed, text = await ask(messages, templates.judgement)
  return Critique(request, text, passed)
