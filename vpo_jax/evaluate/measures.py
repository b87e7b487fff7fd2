"""Measures: one number per query and system, and what they say about the systems.

All systems of a measure are compared on the same queries: those for which every system
has a value.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ml_collections
import numpy as np
from jaxtyping import Float

from vpo_jax import errors
from vpo_jax.evaluate import paired, systems

# Labels of queries, such as {"category": ("Story",)}, by query id.
Labels = Mapping[str, Mapping[str, Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class Measure:
  """One number per query and system.

  Attributes:
    name: for example "overall" or "human action".
    values: by system, then by query id.
    model: the video model whose videos are measured; "" if prompts are measured.
    unit: "%" if values are shares from 0 to 1; tables show them times 100.
    better: whether high or low values are better; "" if neither is.
  """

  name: str
  values: Mapping[str, Mapping[str, float]]
  model: str = ""
  unit: Literal["", "%"] = ""
  better: Literal["high", "low", ""] = "high"

  def shared(self) -> list[str]:
    """The ids of the queries for which every system has a value, sorted."""
    return sorted(set.intersection(*map(set, self.values.values())))


def pairs(chosen: Sequence[systems.System]) -> list[tuple[str, str]]:
  """The pairs of systems to compare, last system first.

  An iteration is compared only with the system that it started from and the first one.
  """
  found = [
    (one.name, two.name)
    for one, two in itertools.combinations(chosen, 2)
    if not two.of or one.name in (two.of, chosen[0].name)
    if two.of or not one.of
  ]
  place = {one.name: k for k, one in enumerate(chosen)}
  return sorted(found, key=lambda pair: (-place[pair[1]], place[pair[0]]))


def summarize(
  measure: Measure,
  compared: Sequence[tuple[str, str]],
  labels: Labels,
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """A measure's entry in results.json.

  Args:
    compared: pairs of systems (`pairs`); those that the measure lacks are left out.
    labels: of the queries; each label gets means of its own.
    config: `draws` and `seed` of the bootstrap.

  Returns: name, model, unit and better; the numbers of `queries` and of those `dropped`
    because a system has no value; each system's mean with its 95 % interval; the
    `differences` of pairs; and the same means `by` label.

  Raises:
    UserError: no query has a value for every system.
  """
  shared = measure.shared()
  if not shared:
    where = f"{measure.model}: " if measure.model else ""
    raise errors.UserError(
      f"evaluate: {where}no query has a value of {measure.name!r} for every system"
    )
  names = list(measure.values)
  values_SN = _array(measure, names, shared)
  present = [pair for pair in compared if set(pair) <= set(names)]
  return {
    "name": measure.name,
    "model": measure.model,
    "unit": measure.unit,
    "better": measure.better,
    "queries": len(shared),
    "dropped": max(map(len, measure.values.values())) - len(shared),
    "systems": _means(names, values_SN, config),
    "differences": differences(names, values_SN, present, config),
    "by": {
      label: {
        value: {
          "queries": len(queries),
          "systems": _means(names, _array(measure, names, queries), config),
        }
        for value, queries in _grouped(label, shared, labels).items()
      }
      for label in dict.fromkeys(
        itertools.chain.from_iterable(labels.get(query, ()) for query in shared)
      )
    },
  }


def _array(
  measure: Measure, names: Sequence[str], queries: Sequence[str]
) -> Float[np.ndarray, "S N"]:
  return np.array([[measure.values[name][q] for q in queries] for name in names], float)


def _grouped(
  label: str, queries: Sequence[str], labels: Labels
) -> dict[str, list[str]]:
  """The queries by the values of a label, in the suite's order; some have several."""
  found: dict[str, list[str]] = {}
  for query in (query for query in labels if query in set(queries)):
    for value in labels[query].get(label, ()):
      found.setdefault(value, []).append(query)
  return found


def _means(
  names: Sequence[str],
  values_SN: Float[np.ndarray, "S N"],
  config: ml_collections.ConfigDict,
) -> dict[str, dict[str, float]]:
  """Each system's mean and its interval by the bootstrap over queries."""
  intervals = paired.intervals(
    np.zeros_like(values_SN), values_SN, draws=config.draws, seed=config.seed
  )
  return {
    name: {"mean": float(values_N.mean()), "low": float(low), "high": float(high)}
    for name, values_N, (low, high) in zip(names, values_SN, intervals, strict=True)
  }


def differences(
  names: Sequence[str],
  values_SN: Float[np.ndarray, "S N"],
  compared: Sequence[tuple[str, str]],
  config: ml_collections.ConfigDict,
) -> list[dict[str, Any]]:
  """The second system minus the first, for each pair, on the same queries.

  Returns: for each pair the mean, its 95 % interval by the paired bootstrap, on how
    many queries the second system wins, ties and loses, `net` (the share of wins minus
    that of losses) with its interval, and the p-value of a paired permutation test,
    corrected for the number of pairs (Holm).
  """
  if not compared:
    return []
  row = dict(zip(names, values_SN, strict=True))
  one_PN = np.stack([row[one] for one, _ in compared])
  two_PN = np.stack([row[two] for _, two in compared])
  intervals = paired.intervals(one_PN, two_PN, draws=config.draws, seed=config.seed)
  p_values = paired.holm(
    paired.p_values(two_PN - one_PN, draws=config.draws, seed=config.seed)
  )
  sign_PN = np.sign(two_PN - one_PN)
  nets = paired.intervals(
    np.zeros_like(sign_PN), sign_PN, draws=config.draws, seed=config.seed
  )
  rows = zip(compared, two_PN - one_PN, intervals, nets, p_values, strict=True)
  return [
    {
      "one": one,
      "two": two,
      "mean": float(difference_N.mean()),
      "low": float(low),
      "high": float(high),
      "wins": int((difference_N > 0).sum()),
      "ties": int((difference_N == 0).sum()),
      "losses": int((difference_N < 0).sum()),
      "net": float(np.sign(difference_N).mean()),
      "net_low": float(net_low),
      "net_high": float(net_high),
      "p": float(p),
    }
    for (one, two), difference_N, (low, high), (net_low, net_high), p in rows
  ]


def find(
  results: Mapping[str, Any], name: str, *, suite: str = "", model: str | None = None
) -> dict[str, Any] | None:
  """The first summary of a measure in results.json; None if there is none.

  Args:
    suite: only of this suite; "" is the first suite that has the measure.
    model: only of this video model; None is the first.
  """
  for one, found in results["suites"].items():
    if suite in ("", one):
      for row in found["measures"]:
        if row["name"] == name and model in (None, row["model"]):
          return row
  return None
