"""What draws the candidates: this project's sampler, or a server."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections

from vpo_jax import errors, records, stages
from vpo_jax.decoder import sharding
from vpo_jax.runtime import watchdog
from vpo_jax.sample import generate, lm, openai_engine, settings

_ENGINES = ("jax", "openai")

Finished = Iterator[tuple[int, tuple[records.Candidate, ...]]]


@dataclasses.dataclass(frozen=True)
class Engine:
  """What draws the candidates.

  Attributes:
    prompter: writes the model's prompts.
    stream: yields (index of a prompt, its candidates) as prompts are finished.
    made_with: what a row records besides the settings, for its prompt.
  """

  prompter: lm.Prompter
  stream: Callable[[Sequence[lm.Prompt], settings.Settings, watchdog.Watch], Finished]
  made_with: Callable[[lm.Prompt], dict[str, Any]]


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError if there is no such engine, or it cannot do what is asked."""
  if config.engine not in _ENGINES:
    raise errors.UserError(
      f"config.engine={config.engine!r}: must be {' or '.join(_ENGINES)}"
    )
  if config.openai.parallel < 1:
    raise errors.UserError(
      f"config.openai.parallel={config.openai.parallel}: must be at least 1"
    )
  if config.engine == "openai" and not config.generation_prompt:
    raise errors.UserError(
      "config.engine='openai': needs config.generation_prompt=True, because a server"
      " does not return the header that the model writes"
    )


def load(work: stages.Work, notes: str = "") -> Engine:
  """The engine of `config.engine`, ready to sample from the stage's model.

  Args:
    notes: of the target, for the instruction.

  Raises:
    UserError: the model cannot be read, or the server of `config.openai` cannot be
      used.
  """
  make = _server if work.config.engine == "openai" else _jax
  return make(work, notes)


def _jax(work: stages.Work, notes: str) -> Engine:
  """This project's sampler on the local devices."""
  config = work.config
  model = lm.load(
    str(work.inputs["model"]),
    precision=config.precision,
    instruction=config.instruction,
    notes=notes,
    generation_prompt=config.generation_prompt,
    reasoning=config.reasoning,
    mesh=sharding.make_mesh(config.mesh, jax.local_devices()),
  )
  return Engine(
    model,
    lambda prompts, wanted, watch: generate.stream(
      model, prompts, wanted, slots=config.slots, watch=watch
    ),
    lambda _: {"precision": model.precision},
  )


def _server(work: stages.Work, notes: str) -> Engine:
  """A server with the OpenAI API that has the model's weights."""
  config = work.config
  openai_engine.check(config.openai)
  prompter = lm.load_prompter(
    str(work.inputs["model"]),
    instruction=config.instruction,
    notes=notes,
    reasoning=config.reasoning,
  )
  return Engine(
    prompter,
    lambda prompts, wanted, _: openai_engine.stream(
      config.openai, prompter, prompts, wanted
    ),
    lambda prompt: {
      "engine": "openai",
      "served_model": config.openai.model,
      "seed": openai_engine.seed(config.seed, prompt.rendered),
    },
  )
