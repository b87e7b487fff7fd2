"""The judge: does a prompt fit its query? (paper, section 3.2 and figure 8)"""

import dataclasses

from vpo_jax import templates
from vpo_jax.promises import promises, targets
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import journal


@dataclasses.dataclass(frozen=True)
class Critique:
  """A judge's reply.

  Attributes:
    request: the message sent to the judge; refinement continues this chat.
    text: the critique c, which is the whole reply.
    passed: whether the final judgement was Yes.
  """

  request: str
  text: str
  passed: bool


async def judge(
  ask: ask_lib.Ask,
  query: str,
  prompt: str,
  *,
  template: str,
  target: targets.Target | None = None,
) -> Critique:
  """Critiques a prompt by the rules of the template.

  A prompt that lacks a protected span of its query, or that the target cannot read to
  its end, is flawed whatever the judge says; the critique begins with that (not in the
  paper).

  Raises:
    ask.NoAnswer: the judge refused, failed, or gave no judgement.
  """
  request = templates.fill(template, query=query, prompt=prompt)
  messages: list[journal.Message] = [{"role": "user", "content": request}]
  passed, text = await ask(messages, templates.judgement)
  broken = promises.of_query(query, target=target).broken(prompt)
  if broken and passed:
    text = f"The prompt {broken}.\n\nFinal Judgement (Yes or No): No"
  elif broken:
    text = f"The prompt {broken}.\n\n{text}"
  return Critique(request, text, passed and not broken)


def check_refined(
  query: str, refined: str, target: targets.Target | None = None
) -> None:
  """Rejects a refined prompt that still lacks a protected span or is too long.

  Raises:
    ask.NoAnswer: "flawed".
  """
  if broken := promises.of_query(query, target=target).broken(refined):
    raise ask_lib.NoAnswer("flawed", f"the refinement {broken}")


async def judge_again(
  ask: ask_lib.Ask, query: str, refined: str, *, template: str
) -> None:
  """Critiques a refined prompt and rejects it if it is flawed (not in the paper).

  Raises:
    ask.NoAnswer: "flawed" if the judge still finds a flaw; otherwise as `judge`.
  """
  verdict = await judge(ask, query, refined, template=template)
  if not verdict.passed:
    reason = " ".join(verdict.text.split())[:300]
    raise ask_lib.NoAnswer("flawed", f"the refinement was rejected too: {reason}")
