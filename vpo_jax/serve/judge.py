"""An optional check of prompts by an LLM: is everything there that was asked for?

It is the verdict of the paper's table 2, asked of any server with OpenAI's chat
completions API.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence

import ml_collections
from etils import epath

from configs import teacher
from vpo_jax import errors, templates
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib
from vpo_jax.teacher import queue, server
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
  """A judge that asks for the verdict on each pair of query and prompt.

  It raises a `UserError` if the server rejects the key or the model, or is down.

  Args:
    config: see configs/teacher.py.

  Raises:
    UserError: the server cannot be reached, or rejects the key.
  """
  queue.check(config)
  template = templates.load("alignment")
  texts = texts_lib.Texts(alignment=template)

  def judge(pairs: Sequence[tuple[str, str]]) -> list[str]:
    with (
      tempfile.TemporaryDirectory() as folder,
      journal_lib.Journal(epath.Path(folder) / "journal.sqlite") as journal,
      server.serve(config, texts) as base_url,
    ):
      client = client_lib.Client(config, journal, base_url)
      return asyncio.run(_verdicts(pairs, template, config, client))

  return judge


async def _verdicts(
  pairs: Sequence[tuple[str, str]],
  template: str,
  config: ml_collections.ConfigDict,
  client: client_lib.Client,
) -> list[str]:
  ask = ask_lib.make_ask(config, client.reply)
  free = asyncio.Semaphore(config.parallel)

  async def one(pair: tuple[str, str]) -> str:
    content = templates.fill(template, query=pair[0], prompt=pair[1])
    async with free:
      try:
        return (await ask([{"role": "user", "content": content}], templates.verdict))[0]
      except ask_lib.NoAnswer:
        return "unknown"

  try:
    return await asyncio.gather(*map(one, pairs))
  finally:
    await client.close()


def remembering(judge: Judge) -> Judge:
  """A judge that is asked once for each pair."""
  known: dict[tuple[str, str], str] = {}

  def remembers(pairs: Sequence[tuple[str, str]]) -> list[str]:
    new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
    if new:
      known.update(zip(new, judge(new), strict=True))
    return [known[pair] for pair in pairs]

  return remembers


def problem(verdict: str) -> str | None:
  """Why a prompt with this verdict is unusable, as the end of "the prompt ..."."""
  if verdict in ("aligned", "unknown", ""):
    return None
  return "is a refusal" if verdict == "refusal" else f"is {verdict}, says the judge"
