"""Prompts that are sampled from a model of this project's format."""

import ml_collections
from etils import epath

from vpo_jax import errors, stages, templates
from vpo_jax.evaluate.systems import made, row
from vpo_jax.promises import targets
from vpo_jax.sample import candidates as sample

_KEYS = {row.MODEL: "sample", row.PROMPT_A_VIDEO: "prompt_a_video"}


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Samples one prompt per query, in a process of its own."""
  settings = config[_KEYS[system.kind]]
  named = made.named(settings, queries=queries, model=system.target)
  named.instruction = system.instruction or named.instruction
  named.target = system.profile or named.target
  stages.run(sample.STAGE, named, place, root, own_process=True)


def check(system: row.System, config: ml_collections.ConfigDict) -> None:
  """Checks the instruction, the target and the number of prompts.

  Raises:
    UserError: the config asks for several prompts per query, or the row's instruction
      or target cannot be used.
  """
  key = _KEYS[system.kind]
  count = config[key].num_candidates
  if count != 1:
    raise errors.UserError(
      f"config.{key}.num_candidates={count}: systems are compared by one prompt per"
      " query"
    )
  if system.instruction:
    templates.load("instruction", system.instruction)
  if system.profile:
    targets.load(system.profile)
