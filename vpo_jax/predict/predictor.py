"""A fitted head with what must be the same wherever it is used."""

import dataclasses
import io
import zipfile
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from vpo_jax import buckets, errors, files, records
from vpo_jax.decoder import weights
from vpo_jax.predict import features
from vpo_jax.predict import head as heads
from vpo_jax.runtime import console
from vpo_jax.sample import lm

FILE = "predictor.npz"

# A mean and a standard deviation for each prompt of a query.
Prediction = tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]


@dataclasses.dataclass(frozen=True)
class Reader:
  """The model whose hidden states are the features.

  Attributes:
    precision: of the products.
    instruction: hash of the template that the query is filled into.
    weights: fingerprint of the weights in memory.
  """

  precision: str
  instruction: str
  weights: str


def reader(policy: lm.LanguageModel) -> Reader:
  """What identifies a loaded model as a reader of prompts."""
  return Reader(
    precision=policy.precision,
    instruction=records.row_id(policy.instruction),
    weights=weights.fingerprint(policy.params),
  )


@dataclasses.dataclass(frozen=True)
class Predictor:
  """Predicts how much more reward a prompt gets than others of its query.

  Attributes:
    head: the regression on the features.
    reader: the model that the head was fitted with.
    accuracy: share of pairs that it ranked rightly in cross-validation; NaN if there
      was no pair.
  """

  head: heads.Head
  reader: Reader
  accuracy: float

  def save(self, path: epath.PathLike) -> None:
    """Writes the predictor, atomically."""
    arrays = dataclasses.asdict(self.head) | dataclasses.asdict(self.reader)
    arrays["basis_FR"] = self.head.basis_FR.astype(np.float32)  # the largest by far
    with files.publish(path, "wb") as file:
      np.savez(file, accuracy=self.accuracy, **arrays)

  def check(self, policy: lm.LanguageModel) -> None:
    """Checks that a model is the one that the head was fitted with.

    Raises:
      UserError: its weights, its precision or its instruction differ.
    """
    here = dataclasses.asdict(reader(policy))
    for name, value in dataclasses.asdict(self.reader).items():
      if here[name] != value:
        shown = f": {value}, not {here[name]}" if name == "precision" else ""
        raise errors.UserError(
          f"the predictor was trained with other {name} than that of {policy.folder}"
          f"{shown}; use that model, or run launch/train_predictor.py with"
          f" --config.model={policy.folder}"
        )

  def predict(
    self,
    policy: lm.LanguageModel,
    queries: Sequence[str],
    prompts: Sequence[Sequence[str]],
    advance: console.Advance = lambda count, note: None,
  ) -> list[Prediction]:
    """The gain of each prompt: its reward minus the mean of its query's prompts.

    NaN for a prompt that the model cannot read (`features.compute`).

    Args:
      policy: the model that passes `check`.
      queries: the queries.
      prompts: the prompts of each query.
      advance: called with the number of prompts that are finished.
    """
    found = []
    for x_KF in features.compute(policy, queries, prompts, advance):
      mean_K, deviation_K = np.full((2, len(x_KF)), np.nan)
      known = np.isfinite(x_KF).all(axis=1)
      if known.any():
        one_query = np.zeros(known.sum(), np.int64)
        mean_K[known], deviation_K[known] = self.head.predict(x_KF[known], one_query)
      found.append((mean_K, deviation_K))
    return found

  def gains(
    self,
    policy: lm.LanguageModel,
    queries: Sequence[str],
    prompts: Sequence[Sequence[str]],
  ) -> list[list[float | None]]:
    """The means of `predict`; None for a prompt that the model cannot read."""
    found = self.predict(policy, queries, prompts)
    return [
      [None if np.isnan(mean) else float(mean) for mean in mean_K]
      for mean_K, _ in found
    ]

  def fingerprint(self) -> str:
    """16 hex digits that identify the head and its model."""
    weights = self.head.weight_F / self.head.scale_F
    return records.row_id(weights.tobytes().hex(), *dataclasses.astuple(self.reader))


def find(path: str) -> epath.Path:
  """The file of a predictor, given it or its folder."""
  found = epath.Path(path)
  return found if found.suffix == ".npz" else found / FILE


def load(path: epath.PathLike) -> Predictor:
  """Reads a predictor.

  Args:
    path: its file, or the folder of the stage that wrote it.

  Raises:
    UserError: there is no such file, or it is not a predictor.
  """
  path = find(str(path))
  buckets.check(path)
  if not path.exists():
    raise errors.UserError(f"{path}: no such predictor; run launch/train_predictor.py")
  try:
    with path.open("rb") as file, np.load(io.BytesIO(file.read())) as stored:
      return Predictor(
        head=heads.Head(
          scale_F=stored["scale_F"],
          weight_F=stored["weight_F"],
          basis_FR=stored["basis_FR"],
          variance_R=stored["variance_R"],
          rest=float(stored["rest"]),
          noise=float(stored["noise"]),
        ),
        reader=Reader(*(str(stored[f.name]) for f in dataclasses.fields(Reader))),
        accuracy=float(stored["accuracy"]),
      )
  except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
    raise errors.UserError(f"{path}: not a predictor; remove it") from error
