"""The runner tells finished work from work that was made with other settings."""

import dataclasses
import json
import os
import time

import ml_collections
import pytest

from vpo_jax import errors, files, json_input, records, stages

CONFIG = {"queries": "", "seed": 0, "rules": {"words": ("a", "b")}, "mesh": {"data": 1}}


@pytest.fixture
def stage():
  """A declaration of a stage that copies its input and counts its executions."""
  executions = []

  def run(work):
    executions.append(work)
    if work.config.seed < 0:
      raise errors.UserError("seed: must not be negative")
    if work.config.seed == 99:
      return stages.Unfinished({"missing": 1})
    (work.folder / "copy.txt").write_text(work.inputs["queries"].read_text())
    if work.config.seed == 13:
      raise errors.UserError("stopped after a file was written")
    return {"executions": len(executions)}

  return stages.Stage(
    name="copy",
    run=run,
    inputs=(stages.Input("queries", "curate/queries.txt"),),
    execution_keys=("mesh.*",),
  )


@pytest.fixture
def workdir(tmp_path):
  (tmp_path / "curate").mkdir()
  (tmp_path / "curate" / "queries.txt").write_text("a cat\n")
  return tmp_path


def execute(stage, workdir, **changes):
  config = ml_collections.ConfigDict(CONFIG)
  config.update_from_flattened_dict(changes)
  return stages.run(stage, config, workdir)


def test_finished_work_is_not_done_again(stage, workdir):
  assert execute(stage, workdir) == {"executions": 1}
  assert execute(stage, workdir) == {"executions": 1}
  assert stages.finished_counts(workdir / "copy") == {"executions": 1}


def test_work_that_was_begun_continues(stage, workdir):
  with pytest.raises(errors.UserError, match="stopped"):
    execute(stage, workdir, seed=13)
  with pytest.raises(errors.UserError, match=r"config\.seed was 13 and is now 1;"):
    execute(stage, workdir, seed=1)
  assert stages.finished_counts(workdir / "copy") is None


@pytest.mark.parametrize("part", [None, lambda config: str(config.seed)])
def test_a_second_run_at_the_same_time_says_so_and_leaves(stage, workdir, part):
  """Runs of different parts of a stage may share its folder."""
  refused = []

  def run(work):
    (work.folder / "work.txt").write_text("begun")
    for seed in (0, 7):
      config = ml_collections.ConfigDict(CONFIG | {"seed": seed})
      try:
        stages.run(dataclasses.replace(first, run=second), config, workdir)
      except errors.UserError as error:
        refused.append(str(error).split(" (")[0].rpartition(": ")[2])
    assert (work.folder / "work.txt").exists()
    return {}

  def second(work):
    return stages.Unfinished({})

  keys = ("mesh.*", "seed") if part else ("mesh.*",)
  first = dataclasses.replace(stage, run=run, part=part, execution_keys=keys)
  execute(first, workdir)
  assert refused == ["another run is at work here"] * (1 if part else 2)
  assert {path.name for path in workdir.iterdir()} == {"curate", "copy"}


def test_a_changed_key_is_refused_by_its_name(stage, workdir):
  execute(stage, workdir)
  with pytest.raises(errors.UserError, match=r"config\.seed was 0 and is now 1;"):
    execute(stage, workdir, seed=1)


def test_an_execution_key_may_change(stage, workdir):
  execute(stage, workdir)
  assert execute(stage, workdir, **{"mesh.data": 8}) == {"executions": 1}


def test_a_changed_input_is_refused_by_its_path(stage, workdir):
  execute(stage, workdir)
  (workdir / "curate" / "queries.txt").write_text("a dog\n")
  with pytest.raises(errors.UserError, match=r"input queries \(.*txt\) has changed"):
    execute(stage, workdir)


def test_a_cheap_stage_is_made_again(stage, workdir):
  cheap = dataclasses.replace(stage, cheap=True)
  execute(cheap, workdir)
  assert execute(cheap, workdir) == {"executions": 1}
  assert execute(cheap, workdir, seed=1) == {"executions": 2}
  (workdir / "curate" / "queries.txt").write_text("a dog\n")
  assert execute(cheap, workdir, seed=1) == {"executions": 3}
  assert (workdir / "copy" / "copy.txt").read_text() == "a dog\n"


def test_a_named_input_takes_the_defaults_place(stage, workdir):
  other = workdir / "mine.txt"
  other.write_text("a fish\n")
  execute(stage, workdir, queries=str(other))
  assert (workdir / "copy" / "copy.txt").read_text() == "a fish\n"


def test_a_missing_input_is_named(stage, tmp_path):
  with pytest.raises(errors.UserError, match=r"copy: queries .*does not exist; run"):
    execute(stage, tmp_path)


@pytest.mark.parametrize("seed", [-1, 99])
def test_what_wrote_no_file_leaves_no_trace(stage, workdir, seed):
  if seed < 0:
    with pytest.raises(errors.UserError, match="negative"):
      execute(stage, workdir, seed=seed)
  else:
    assert execute(stage, workdir, seed=seed) == {"missing": 1}
  assert not (workdir / "copy").exists()
  assert execute(stage, workdir) == {"executions": 2}


def test_the_manifest_has_config_inputs_and_counts(stage, workdir):
  execute(stage, workdir)
  manifest = json_input.value(workdir / "copy" / stages.MANIFEST)
  assert manifest["config"] == CONFIG | {"rules": {"words": ["a", "b"]}}
  assert set(manifest["inputs"]["queries"]) == {"path", "fingerprint"}
  assert manifest["counts"] == {"executions": 1}


def test_a_file_takes_its_name_only_when_it_is_complete(tmp_path):
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


def test_temporary_files_of_a_killed_process_are_removed(stage, workdir):
  with pytest.raises(errors.UserError, match="stopped"):
    execute(stage, workdir, seed=13)
  folder = workdir / "copy"
  old, new = (folder / f"{files.TEMPORARY}{name}-rows.jsonl" for name in "12")
  for path in (old, new):
    path.write_text("half")
  then = time.time() - files.LEFTOVER_AGE - 1
  os.utime(old, (then, then))
  with pytest.raises(errors.UserError, match="stopped"):
    execute(stage, workdir, seed=13)
  # Another process that shares the workdir may still be writing the new one.
  assert new.exists()
  assert not old.exists()


def test_rows_survive_a_round_trip(tmp_path):
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


def test_a_key_that_a_newer_version_added_is_no_change_while_it_is_off(stage, workdir):
  execute(stage, workdir)
  assert execute(stage, workdir, lora="") == {"executions": 1}
  with pytest.raises(errors.UserError, match=r"config\.lora was None and is now 'a'"):
    execute(stage, workdir, lora="a")
