"""TFDS builders that store rows as ArrayRecord files (without TensorFlow).

    folder = arrays.build(arrays.VidProM, "VidProM_semantic_unique.csv", "data")
    builder = tfds.builder_from_directory(folder)
    source = builder.as_data_source(split="train")  # random access

The input of `curate` may be such a folder of queries.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from vpo_jax import errors, files, queries, records


def build(
  kind: type["Rows"], source: epath.PathLike, data_dir: epath.PathLike
) -> epath.Path:
  """Converts a file to ArrayRecord, unless that was done before; returns the folder.

  The folder is named by a hash of the source, so each file content has its own.

  Raises:
    UserError: the source cannot be read.
  """
  source = epath.Path(source)
  if files.is_bucket(data_dir):
    raise errors.UserError(f"{data_dir}: a data set of TFDS must be on a local disk")
  if not source.exists():
    raise errors.UserError(f"{source}: no such file")
  folder = epath.Path(data_dir) / files.fingerprint(source)
  builder = kind(source, data_dir=folder)
  try:
    builder.download_and_prepare()
  except Exception as error:
    # TFDS wraps exceptions raised while rows are read.
    cause = error.__cause__ or error.__context__
    raise cause if isinstance(cause, errors.UserError) else error from None
  return epath.Path(builder.data_dir)


class Rows(tfds.core.GeneratorBasedBuilder):
  """The rows of one file, in order, as ArrayRecord shards.

  Attributes:
    source: the file to read.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, source: epath.PathLike, **kwargs: Any) -> None:
    """Makes a builder; `kwargs` are passed to TFDS, for example `data_dir`."""
    self.source = epath.Path(source)
    super().__init__(file_format="array_record", **kwargs)

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager  # Nothing is downloaded.
    return {"train": self._generate_examples()}


class VidProM(Rows):
  """VidProM's queries with Detoxify's scores, or any source that `queries` reads.

  A row that is not a valid query has the reason in `problem`; `curate` sets it aside.
  Missing scores are NaN.
  """

  name = "vidprom"

  def _info(self) -> tfds.core.DatasetInfo:
    scores = tfds.features.Tensor(shape=(len(queries.TOXICITY),), dtype=np.float32)
    texts = ("text", "category", "problem", "id", "flags")
    features = {name: tfds.features.Text() for name in texts} | {"scores": scores}
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features), disable_shuffling=True
    )

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    missing = np.full(len(queries.TOXICITY), np.nan, np.float32)
    for number, raw in enumerate(queries.read(self.source)):
      scores = np.array(raw.scores, np.float32) if raw.scores else missing
      texts = {"category": raw.category or "", "scores": scores}
      yield number, dataclasses.asdict(raw) | texts


class SftExamples(Rows):
  """The examples of `build_sft/sft.jsonl`; a missing `refined` is ""."""

  def _info(self) -> tfds.core.DatasetInfo:
    names = [field.name for field in dataclasses.fields(records.SftExample)]
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict({n: tfds.features.Text() for n in names}),
      disable_shuffling=True,
    )

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, str]]]:
    for number, row in enumerate(records.read(self.source, records.SftExample)):
      yield number, {k: v or "" for k, v in dataclasses.asdict(row).items()}
