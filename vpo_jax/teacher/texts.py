"""The template texts of the teacher's requests."""

import dataclasses

import ml_collections

from vpo_jax import templates


@dataclasses.dataclass(frozen=True)
class Texts:
  """Template texts by name; those that a stage does not use are empty."""

  few_shot: str = ""
  critique: str = ""
  refine: str = ""
  alignment: str = ""
  safety: str = ""
  difficulty: str = ""


def load(config: ml_collections.ConfigDict) -> Texts:
  """Reads the templates that a stage's config names.

  Args:
    config: `critique_rules` is 6 (release) or 5 (paper, figure 8); `few_shot`,
      `critique` and `refine` are paths of the user's own files, or "".

  Raises:
    UserError: a file is missing or invalid, or `critique_rules` is not 6 or 5.
  """
  return Texts(
    few_shot=templates.load("few_shot", config.get("few_shot", "")),
    critique=templates.load("critique", config.critique, config.critique_rules),
    refine=templates.load("refine", config.refine),
  )
