"""ArrayRecord forms of the project's rows, as TFDS builders (TensorFlow not needed).

    folder = arrays.build(arrays.VidProM, "VidProM_semantic_unique.csv", "data")
    builder = tfds.builder_from_directory(folder)
    source = builder.as_data_source(split="train")  # random access

`curate` takes such a folder of queries as its input.
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
  """Builds the ArrayRecord form of a file, where it is not there; returns its folder.

  A folder is named for the content of its source, so that another file's is another.

  Raises:
    UserError: the source cannot be read.
  """
  source = epath.Path(source)
  if not source.exists():
    raise errors.UserError(f"{source}: no such file")
  folder = epath.Path(data_dir) / files.fingerprint(source)
  builder = kind(source, data_dir=folder)
  try:
    builder.download_and_prepare()
  except Exception as error:
    # TFDS wraps what the rows raise.
    cause = error.__cause__ or error.__context__
    raise cause if isinstance(cause, errors.UserError) else error from None
  return epath.Path(builder.data_dir)


class Rows(tfds.core.GeneratorBasedBuilder):
  """Rows of one file, in their order, as ArrayRecord shards.

  Attributes:
    source: the file that the rows are read from.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, source: epath.PathLike, **kwargs: Any) -> None:
    """Makes a builder; `kwargs` are TFDS's own, `data_dir` above all."""
    self.source = epath.Path(source)
    super().__init__(file_format="array_record", **kwargs)

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager  # Nothing is downloaded.
    return {"train": self._generate_examples()}


class VidProM(Rows):
  """VidProM's queries with Detoxify's scores, or any source that `queries` reads.

  A row that is no query keeps the reason in `problem`, so that `curate` sets it aside.
  A score that a row lacks is NaN.
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
    none = np.full(len(queries.TOXICITY), np.nan, np.float32)
    for number, raw in enumerate(queries.read(self.source)):
      scores = np.array(raw.scores, np.float32) if raw.scores else none
      texts = {"category": raw.category or "", "scores": scores}
      yield number, dataclasses.asdict(raw) | texts


class SftExamples(Rows):
  """The examples of `build_sft/sft.jsonl`; a row without `refined` has ""."""

  def _info(self) -> tfds.core.DatasetInfo:
    names = [field.name for field in dataclasses.fields(records.SftExample)]
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict({n: tfds.features.Text() for n in names}),
      disable_shuffling=True,
    )

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, str]]]:
    for number, row in enumerate(records.read(self.source, records.SftExample)):
      yield number, {k: v or "" for k, v in dataclasses.asdict(row).items()}
