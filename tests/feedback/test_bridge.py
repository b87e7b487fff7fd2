"""What a bridge gives, with real worker processes, and refuses before it starts."""

import pathlib
import subprocess
import sys

import asking
import pytest

from torch_bridge import contract
from vpo_jax import errors
from vpo_jax.feedback import bridge, crew


def test_every_ask_is_answered_in_order_and_a_second_run_renders_nothing(
  scripted, tmp_path
):
  config, count = scripted
  asks = asking.asks(*asking.good(5), "good 2")  # the last is the third again
  link = bridge.Bridge(config, tmp_path / "a")
  results = link.run(asks)
  assert (link.rendered, link.scored) == (5, 5)
  assert all(len(r.answers.yes) == len(link.questions.texts) for r in results)
  assert results[5] == results[2]
  assert [r.answers.video_id for r in results] == [r.video_id for r in results]
  before = count()
  again = bridge.Bridge(config, tmp_path / "a")
  assert again.run(asks) == results
  assert (again.rendered, again.scored) == (0, 0)
  assert count() == before


def test_another_run_with_the_same_store_renders_nothing(scripted, tmp_path):
  config, count = scripted
  config.bridge.store = str(tmp_path / "store")
  first = bridge.Bridge(config, tmp_path / "a").run(asking.asks(*asking.good(3)))
  before = count()
  second = bridge.Bridge(config, tmp_path / "b").run(asking.asks("good 2", "good 0"))
  assert [r.answers for r in second] == [first[2].answers, first[0].answers]
  assert count() == before


def test_a_model_that_cannot_be_loaded_is_the_workers_own_line(scripted, tmp_path):
  config, _ = scripted
  config.renderer.model = "broken"
  with pytest.raises(errors.UserError, match="broken: not a pipeline to load"):
    bridge.Bridge(config, tmp_path).run(asking.asks("good 1"))


def test_a_renderer_that_cannot_be_imported_is_found_before_anything_starts(
  scripted, tmp_path
):
  config, count = scripted
  config.scorer.name = "no_such_scorer"
  with pytest.raises(errors.UserError, match="cannot do score: No module named"):
    bridge.Bridge(config, tmp_path).run(asking.asks("good 1"))
  assert count() == {}


def test_an_environment_without_torch_is_found_before_anything_starts(
  scripted, tmp_path
):
  config, _ = scripted
  config.renderer.name = "diffusers"
  python = tmp_path / "env" / "bin" / "python"
  subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"])
  config.renderer.python = str(python)
  with pytest.raises(errors.UserError) as caught:
    bridge.Bridge(config, tmp_path).run(asking.asks("good 1"))
  assert "\n" not in str(caught.value)
  assert str(python) in str(caught.value)
  assert "No module named" in str(caught.value)


def test_an_interpreter_that_is_not_there_is_named(scripted, tmp_path):
  config, _ = scripted
  config.renderer.python = "/no/such/python"
  with pytest.raises(errors.UserError, match="/no/such/python: No such file"):
    bridge.Bridge(config, tmp_path).run(asking.asks("good 1"))


@pytest.mark.parametrize(
  ("named", "visible", "found", "expected"),
  [
    ("", None, 3, {"0", "1", "2"}),
    ("", "5,7", 2, {"5", "7"}),  # what a scheduler gave this process
    ("1,3", "5,7", 2, {"1", "3"}),
    ("MIG-GPU-a/1/0, MIG-GPU-b/1/0", None, 0, {"MIG-GPU-a/1/0", "MIG-GPU-b/1/0"}),
  ],
)
def test_each_device_has_a_worker_of_its_own(
  scripted, tmp_path, monkeypatch, named, visible, found, expected
):
  config, count = scripted
  config.bridge.workers = 0
  config.bridge.devices = named
  if visible:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  check = crew.check
  monkeypatch.setattr(
    crew,
    "check",
    lambda jobs: {job: said | {"devices": found} for job, said in check(jobs).items()},
  )
  notes = []
  monkeypatch.setattr(
    crew.Supervisor,
    "_note",
    lambda self, began, note=crew.Supervisor._note: (
      notes.append(note(self, began)) or notes[-1]
    ),
  )
  results = bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(12, "slow")))
  assert asking.reasons(results) == [""] * 12
  devices = {call.removeprefix("device ") for call in count() if "device " in call}
  assert devices == expected
  assert "GPU h spent, 0.00 left" in notes[-1]


def test_renderer_and_scorer_have_interpreters_of_their_own(scripted, tmp_path):
  config, _ = scripted
  for part in ("renderer", "scorer"):
    python = tmp_path / part
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{part}.log\n')
    with python.open("a") as file:
      file.write(f'exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config[part].python = str(python)
  results = bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(3)))
  assert asking.reasons(results) == [""] * 3
  for part, task in (("renderer", "render"), ("scorer", "score")):
    lines = (tmp_path / f"{part}.log").read_text().splitlines()
    assert "--check" in lines[0]
    assert len(lines) >= 2
    assert all(f"--job={tmp_path}/{task}/job.json" in line for line in lines)


def test_a_scorer_that_cannot_work_is_found_before_anything_is_rendered(
  scripted, tmp_path
):
  config, count = scripted
  config.scorer.name, config.scorer.model = "visionreward", "no/model"
  with pytest.raises(errors.UserError, match="trust_remote_code=True"):
    bridge.Bridge(config, tmp_path).run(asking.asks("good 1"))
  assert count() == {}


def test_settings_may_come_from_a_file_or_one_by_one(scripted, tmp_path):
  config, _ = scripted
  path = tmp_path / "mine.json"
  path.write_text('{"num_frames": 9, "fps": 5, "call": {"x": [1]}}')
  config.renderer.preset = str(path)
  link = bridge.Bridge(config, tmp_path)
  assert link.settings["call"] == {"x": [1]}
  (result,) = link.run(asking.asks("good 1"))
  assert result.video.settings["fps"] == result.video.fps == 5
  config.renderer.preset = ""
  config.renderer.settings.num_frames = 9
  with pytest.raises(errors.UserError, match=r"renderer\.settings: fps not set"):
    bridge.Bridge(config, tmp_path)
  config.renderer.name = ""
  with pytest.raises(errors.UserError, match=r"fps, pipeline, dtype.* not set"):
    bridge.Bridge(config, tmp_path)
  config.renderer.preset = str(tmp_path / "none.json")
  with pytest.raises(errors.UserError, match=r"none\.json: not a JSON object"):
    bridge.Bridge(config, tmp_path)


def test_unknown_presets_are_named(scripted, tmp_path):
  config, _ = scripted
  config.renderer.preset = "cogvideox"
  with pytest.raises(errors.UserError, match="no preset 'cogvideox'; there are"):
    bridge.Bridge(config, tmp_path)


def test_the_package_is_found_by_its_folder_alone(tmp_path):
  """Without the environment that holds it, as another interpreter would."""
  package = pathlib.Path(contract.__file__).parent
  line = subprocess.run(
    [sys.executable, "-I", package, "worker", "--help"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert "--job" in line
