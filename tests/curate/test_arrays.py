import json
import sys

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

import tensorflow_datasets as tfds  # noqa: E402
import vidprom  # noqa: E402

from configs import curate as curate_config  # noqa: E402
from vpo_jax import errors, queries, records, stages  # noqa: E402
from vpo_jax.curate import arrays, curate  # noqa: E402


def _built(kind, source, folder):
  return tfds.builder_from_directory(arrays.build(kind, source, folder))


def test_vidproms_array_records_hold_the_rows_of_its_csv(tmp_path):
  path = vidprom.write(tmp_path / "v.csv", 300)
  with path.open("a") as file:
    file.write('7,"cut in the mid')
  builder = _built(arrays.VidProM, path, tmp_path / "data")
  assert builder.info.file_format.value == "array_record"
  source = builder.as_data_source(split="train")
  assert len(source) == 301
  expected = list(queries.read(path))
  found = list(queries.read(builder.data_dir))
  assert [row.text for row in found] == [row.text for row in expected]
  assert [row.problem for row in found] == [row.problem for row in expected]
  for one, other in zip(found, expected, strict=True):
    assert one.scores == pytest.approx(other.scores, abs=1e-6)
  assert "tensorflow" not in sys.modules


def test_a_query_is_restored_with_all_fields(tmp_path):
  row = records.Query("an id", "a cat 猫", "safety", "-neg blurry")
  path = tmp_path / "queries.jsonl"
  records.write(path, [row])
  builder = _built(arrays.VidProM, path, tmp_path / "data")
  assert list(queries.read(builder.data_dir)) == list(queries.read(path))
  assert queries.load(builder.data_dir) == ([row], [])


def test_curate_gives_the_same_counts_for_array_records(tmp_path):
  builder = _built(arrays.VidProM, queries.SHIPPED, tmp_path)
  counts = []
  for number, path in enumerate(("", str(builder.data_dir))):
    config = curate_config.get_config()
    config.queries = path
    counts.append(stages.run(curate.STAGE, config, tmp_path / str(number)))
  assert counts[0] == counts[1]


def test_sft_examples_are_stored_as_array_records(tmp_path):
  row = records.SftExample("id", "q 猫", "safety", "p", "c", None, "p")
  records.write(tmp_path / "examples.jsonl", [row])
  path = tmp_path / "examples.jsonl"
  builder = _built(arrays.SftExamples, path, tmp_path / "data")
  (found,) = builder.as_data_source(split="train")
  assert json.loads(records.dump(row)) | {"refined": ""} == {
    key: value.decode() for key, value in found.items()
  }


def test_another_folder_is_rejected(tmp_path):
  with pytest.raises(errors.UserError, match="not a data set of TFDS"):
    list(queries.read(tmp_path))


def test_an_unreadable_source_is_reported(tmp_path):
  (tmp_path / "q.csv").write_text("a,b\n1,2\n")
  with pytest.raises(errors.UserError, match=r"q\.csv: none of the columns"):
    arrays.build(arrays.VidProM, tmp_path / "q.csv", tmp_path)
  with pytest.raises(errors.UserError, match="no such file"):
    arrays.build(arrays.VidProM, tmp_path / "p.csv", tmp_path)
