"""A stage's folder says whose work it holds."""

import json
import os
import time

import ml_collections
import pytest

from vpo_jax import errors, files, records, stages


def begin(tmp_path, inputs, **changes):
  config = ml_collections.ConfigDict({"seed": 0, "rules": {"words": ("a", "b")}})
  config.update(changes)
  return stages.begin("curate", config, tmp_path / "run", inputs)


@pytest.fixture
def inputs(tmp_path):
  path = tmp_path / "queries.txt"
  path.write_text("a cat\n")
  return {"queries": path}


def test_finished_work_is_found(tmp_path, inputs):
  work = begin(tmp_path, inputs)
  assert work.counts is None
  work.finish({"kept": 1})
  assert begin(tmp_path, inputs).counts == {"kept": 1}


def test_begun_work_goes_on(tmp_path, inputs):
  begin(tmp_path, inputs)
  assert begin(tmp_path, inputs).counts is None


def test_another_config_is_refused_by_its_key(tmp_path, inputs):
  begin(tmp_path, inputs).finish({})
  with pytest.raises(errors.UserError, match="seed=0, asked for seed=1"):
    begin(tmp_path, inputs, seed=1)


def test_another_input_is_refused_by_its_path(tmp_path, inputs):
  begin(tmp_path, inputs).finish({})
  inputs["queries"].write_text("a dog\n")
  with pytest.raises(errors.UserError, match=r"queries\.txt has changed"):
    begin(tmp_path, inputs)


def test_a_missing_input_is_named(tmp_path):
  with pytest.raises(errors.UserError, match=r"queries .*nothing does not exist"):
    begin(tmp_path, {"queries": tmp_path / "nothing"})


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path):
  path = tmp_path / "rows.jsonl"

  def fail():
    with files.publish(path) as file:
      file.write("half")
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert not list(tmp_path.iterdir())
  with files.publish(path) as file:
    file.write("whole")
  assert path.read_text() == "whole"


def test_what_a_killed_process_left_aside_is_swept(tmp_path, inputs):
  work = begin(tmp_path, inputs)
  old, new = (work.folder / f"{files.ASIDE}{name}-rows.jsonl" for name in "12")
  for path in (old, new):
    path.write_text("half")
  then = time.time() - files.AGE - 1
  os.utime(old, (then, then))
  begin(tmp_path, inputs)
  # The new one may be another process's, which shares the workdir.
  assert {path.name for path in work.folder.iterdir()} == {stages.MANIFEST, new.name}


def test_rows_come_back_as_they_went(tmp_path):
  rows = [records.Query("1", 'a "cat" {x}\nand\u2028more', "safety")]
  path = tmp_path / "rows.jsonl"
  assert records.write(path, rows) == 1
  assert list(records.read(path, records.Query)) == rows


def test_a_bad_row_is_named_by_line(tmp_path):
  path = tmp_path / "rows.jsonl"
  good = json.dumps({"id": "1", "text": "a cat"})
  path.write_text(f'{good}\n{{"id": "2", "text": 3}}\n')
  with pytest.raises(errors.UserError, match=r"rows\.jsonl:2: not a Query row: text"):
    list(records.read(path, records.Query))
