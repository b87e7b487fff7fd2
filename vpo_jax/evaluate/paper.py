"""The paper's numbers, shown next to ours.

The paper's rewards are VisionReward's on real videos. With another scorer, only the
order of the systems and the signs of their differences can be compared.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from vpo_jax import errors, json_input

PATH = epath.Path(__file__).parent / "paper.json"
ITERATIONS = "CogVideoX-5B"  # of table 6


@dataclasses.dataclass(frozen=True)
class Reference:
  """The paper's rows that correspond to ours.

  Attributes:
    methods: the paper's method by our system's name.
    models: the paper's video model by ours.
  """

  methods: Mapping[str, str]
  models: Mapping[str, str]
  _numbers: Mapping[str, Any]

  def rewards(self, model: str, system: str) -> dict[str, float]:
    """A row of tables 1, 3 and 4, by column; empty if there is none.

    Columns of VBench, such as "human action", are in percent.
    """
    return self._row("rewards", self.models.get(model), self.methods.get(system))

  def alignment(self, model: str, system: str) -> dict[str, float]:
    """A row of table 2, in percent."""
    return self._row("alignment", self.models.get(model), self.methods.get(system))

  def long_prompts(self, model: str, system: str) -> dict[str, float]:
    """A row of table 5, in percent."""
    return self._row("long_prompts", self.models.get(model), self.methods.get(system))

  def iteration(self, number: int) -> dict[str, float]:
    """A row of table 6; 0 is the query itself. Empty for other video models."""
    if ITERATIONS not in self.models.values():
      return {}
    method = f"Iteration {number}" if number else "Original Query"
    return self._row("iterations", ITERATIONS, method)

  def _row(self, part: str, model: str | None, method: str | None) -> dict[str, float]:
    table = self._numbers[part].get(model, {"columns": [], "rows": {}})
    return dict(zip(table["columns"], table["rows"].get(method, ()), strict=False))


def parse(config: ml_collections.ConfigDict, models: Mapping[str, str]) -> Reference:
  """Reads `config.paper`, rows such as "sft VPO-SFT".

  Args:
    models: the paper's video model by ours (`setup.paper_models`).

  Raises:
    UserError: a row names something that is not in the paper's tables.
  """
  numbers = json_input.value(PATH)
  methods = {
    method
    for part in ("rewards", "long_prompts")
    for table in numbers[part].values()
    for method in table["rows"]
  }
  return Reference(
    _named("config.compare.paper", config.paper, methods),
    models,
    numbers,
  )


def _named(key: str, rows: tuple[str, ...], known: set[str]) -> dict[str, str]:
  found = {}
  for row in rows:
    ours, _, theirs = row.partition(" ")
    if theirs not in known:
      raise errors.UserError(
        f"{key}: {row!r}: the paper's tables have no {theirs!r}, only"
        f" {', '.join(sorted(known))}"
      )
    found[ours] = theirs
  return found
