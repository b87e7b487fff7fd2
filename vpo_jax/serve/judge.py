"""An optional check of prompts by an LLM: is everything there that was asked for?

It is the verdict of the paper's table 2, asked of any server with OpenAI's chat
completions API.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import ml_collections

from configs import teacher
from vpo_jax import errors, templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import queue
from vpo_jax.teacher import texts as texts_lib

# The verdicts on prompts, of each with its query: one of `templates.VERDICTS`, or
# "unknown" if the judge gave none.
Judge = Callable[[Sequence[tuple[str, str]]], list[str]]


def of_model(model: str, base_url: str, key_env: str) -> Judge:
  """The judge of the flags --judge, --judge_url and --judge_key_env.

  Raises:
    UserError: as `make`, or the variable holds no key.
  """
  if key_env and not os.environ.get(key_env):
    raise errors.UserError(
      f"--judge_key_env: ${key_env} holds no key; --judge_key_env= sends none"
    )
  config = teacher.get_config()
  config.update(model=model, base_url=base_url, api_key_env=key_env)
  return make(config)


def make(config: ml_collections.ConfigDict) -> Judge:
  """A judge, which asks once for each prompt of its query.

  Args:
    config: see configs/teacher.py.

  Raises:
    UserError: the server cannot be reached, or rejects the key.
  """
  queue.check(config)
  template = templates.load("alignment")
  known: dict[tuple[str, str], str] = {}

  async def chain(ask: ask_lib.Ask, pair: tuple[str, str]) -> str:
    content = templates.fill(template, query=pair[0], prompt=pair[1])
    verdict, _ = await ask([{"role": "user", "content": content}], templates.verdict)
    return verdict

  def judge(pairs: Sequence[tuple[str, str]]) -> list[str]:
    new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
    if new:
      known.update(zip(new, _ask(new, chain, config, template), strict=True))
    return [known[pair] for pair in pairs]

  return judge


def _ask(pairs, chain, config, template) -> list[str]:
  with tempfile.TemporaryDirectory() as folder:
    outcomes, _ = queue.answer(
      "verify",
      pairs,
      chain,
      config=config,
      folder=pathlib.Path(folder),
      texts=texts_lib.Texts(alignment=template),
    )
  return ["unknown" if isinstance(o, ask_lib.NoAnswer) else o for o in outcomes]


def problem(verdict: str) -> str | None:
  """Why a prompt with this verdict is unusable, as the end of "the prompt ..."."""
  if verdict in ("aligned", "unknown", ""):
    return None
  return "is a refusal" if verdict == "refusal" else f"is {verdict}, says the judge"
