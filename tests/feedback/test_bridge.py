"""Results of the bridge with real worker processes, and errors before they start."""

import importlib
import pathlib
import subprocess
import sys

import batch
import pytest

from torch_bridge import contract
from vpo_jax import errors
from vpo_jax.feedback import bridge, workers


def test_results_are_in_order_and_a_second_run_renders_nothing(scripted, tmp_path):
  config, count = scripted
  prompts = [*batch.good(5), "good 2"]  # the last one repeats the third
  link, results = batch.run(config, tmp_path, *prompts)
  assert (link.rendered, link.scored) == (5, 5)
  assert all(len(r.answers.yes) == len(link.questions.texts) for r in results)
  assert results[5] == results[2]
  assert [r.answers.video_id for r in results] == [r.video_id for r in results]
  before = count()
  link, again = batch.run(config, tmp_path, *prompts)
  assert again == results
  assert (link.rendered, link.scored) == (0, 0)
  assert count() == before


@pytest.mark.parametrize("named", ["argument", "config"])
def test_runs_share_a_store(scripted, tmp_path, named):
  config, count = scripted
  store = tmp_path / "store"
  unused = tmp_path / "unused"
  if named == "config":
    config.bridge.store = str(store)
  argument = store if named == "argument" else unused

  def run(folder, *prompts):
    link = bridge.Bridge(config, tmp_path / folder, argument)
    return link.render_and_score(batch.requests(*prompts))

  first = run("a", *batch.good(3))
  before = count()
  second = run("b", "good 2", "good 0")
  assert [r.answers for r in second] == [first[2].answers, first[0].answers]
  assert count() == before
  assert not unused.exists()


def test_a_model_error_is_the_workers_line(scripted, tmp_path):
  config, _ = scripted
  config.renderer.model = "broken"
  with pytest.raises(errors.UserError, match="broken: cannot be loaded"):
    batch.run(config, tmp_path, "good 1")


@pytest.mark.parametrize("part", ["renderer", "scorer"])
def test_a_missing_module_is_found_before_rendering(scripted, tmp_path, part):
  config, count = scripted
  config[part].name = "no_such_module"
  with pytest.raises(errors.UserError, match="with no_such_module: No module named"):
    batch.run(config, tmp_path, "good 1")
  assert count() == {}


def test_an_environment_without_torch_is_found_before_rendering(scripted, tmp_path):
  config, _ = scripted
  config.renderer.name = "diffusers"
  config.renderer.preset = "cogvideox-2b"
  python = tmp_path / "env" / "bin" / "python"
  subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"])
  config.renderer.python = str(python)
  with pytest.raises(errors.UserError) as caught:
    batch.run(config, tmp_path, "good 1")
  assert "\n" not in str(caught.value)
  assert str(python) in str(caught.value)
  assert "No module named" in str(caught.value)


def test_a_missing_interpreter_is_named(scripted, tmp_path):
  config, _ = scripted
  config.renderer.python = "/no/such/python"
  with pytest.raises(errors.UserError, match="/no/such/python: No such file"):
    batch.run(config, tmp_path, "good 1")


@pytest.mark.parametrize(
  ("named", "visible", "found", "expected"),
  [
    ("", None, 3, {"0", "1", "2"}),
    ("", "5,7", 2, {"5", "7"}),  # assigned to this process by a scheduler
    ("1,3", "5,7", 2, {"1", "3"}),
    ("MIG-GPU-a/1/0, MIG-GPU-b/1/0", None, 0, {"MIG-GPU-a/1/0", "MIG-GPU-b/1/0"}),
  ],
)
def test_each_device_has_its_worker(
  scripted, tmp_path, monkeypatch, capsys, named, visible, found, expected
):
  config, count = scripted
  config.bridge.workers = 0
  config.bridge.devices = named
  if visible:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  ask = workers.ask

  def with_devices(jobs, pythons, flag):
    replies = ask(jobs, pythons, flag)
    return {task: reply | {"devices": found} for task, reply in replies.items()}

  monkeypatch.setattr(workers, "ask", with_devices)
  _, results = batch.run(config, tmp_path, *batch.good(12, "slow"))
  assert batch.reasons(results) == [""] * 12
  devices = {call.removeprefix("device ") for call in count() if "device " in call}
  assert devices == expected
  # The terminal may wrap the bar.
  assert "GPU h spent, 0.00 left" in " ".join(capsys.readouterr().err.split())


def test_renderer_and_scorer_each_have_their_interpreter(scripted, tmp_path):
  config, _ = scripted
  for part in ("renderer", "scorer"):
    python = tmp_path / part
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{part}.log\n')
    with python.open("a") as file:
      file.write(f'exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config[part].python = str(python)
  _, results = batch.run(config, tmp_path, *batch.good(3))
  assert batch.reasons(results) == [""] * 3
  for part, task in (("renderer", "render"), ("scorer", "score")):
    lines = (tmp_path / f"{part}.log").read_text().splitlines()
    assert any("--check" in line for line in lines)
    assert any("--name=" in line for line in lines)
    assert all(f"--job={tmp_path}/{task}/job.json" in line for line in lines)


def test_a_scorers_wrong_setting_is_found_before_rendering(scripted, tmp_path):
  config, count = scripted
  config.scorer.name, config.scorer.model = "visionreward", "no/model"
  with pytest.raises(errors.UserError, match="trust_remote_code=True"):
    batch.run(config, tmp_path, "good 1")
  assert count() == {}


@pytest.mark.parametrize("key", ["renderer.name", "scorer.name"])
def test_nothing_is_chosen_by_default(scripted, tmp_path, key):
  config, count = scripted
  config.renderer.model = ""
  config.update_from_flattened_dict({key: ""})
  expected = "name a video model: .*cogvideox-2b" if "renderer" in key else "name a sc"
  config.renderer.model = "" if "renderer" in key else "m"
  with pytest.raises(errors.UserError, match=expected) as caught:
    bridge.check(config)
  assert "\n" not in str(caught.value)
  assert count() == {}


def test_a_scorer_with_an_identity_is_identified_by_it(scripted, tmp_path, monkeypatch):
  config, _ = scripted
  (tmp_path / "modules").mkdir()
  module = tmp_path / "modules" / "dated.py"
  source = "from contrast import make\ndef identity(spec): return {}\n"
  paths = f"{tmp_path / 'modules'}:{pathlib.Path(__file__).parents[1] / 'torch_bridge'}"
  monkeypatch.setenv("PYTHONPATH", paths)
  monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
  config.scorer.name = "dated"
  scored = []
  for version in ("'1'", "'1'", "'22'"):
    module.write_text(source.format(version))
    link, results = batch.run(config, tmp_path, "good 1")
    assert batch.reasons(results) == [""]
    scored.append(link.scored)
  assert scored == [1, 0, 1]


def test_answers_to_another_question_file_are_refused(scripted, tmp_path):
  config, _ = scripted
  config.scorer.questions = ""
  config.scorer.name = "fixed"  # answers two questions, whatever the file
  with pytest.raises(errors.UserError, match=r"has 0 questions, but .* gave 2 answers"):
    batch.run(config, tmp_path, "good 1")


def test_videos_may_come_from_a_server(scripted, tmp_path, monkeypatch):
  config, count = scripted
  folder = pathlib.Path(__file__).parents[1] / "torch_bridge"
  monkeypatch.syspath_prepend(str(folder))
  server = importlib.import_module("video_server").Server()
  try:
    config.renderer.name = "http"
    config.renderer.settings.update(width=64, height=48)
    config.renderer.options.base_url = f"http://127.0.0.1:{server.port}/v1"
    config.renderer.options.poll_s = 0.02
    _, results = batch.run(config, tmp_path, *batch.good(5), "unsafe 1")
    _, again = batch.run(config, tmp_path, *batch.good(5))
  finally:
    server.stop()
  assert batch.reasons(results) == [""] * 5 + ["the job failed: moderation_blocked"]
  assert again == results[:5]
  assert len(server.created) == 6
  assert results[0].video.made_by["renderer"] == "http"
  assert results[0].video.settings["renderer"] == "http"
  assert count() == {}


def test_settings_come_from_a_file_or_one_by_one(scripted, tmp_path):
  config, _ = scripted
  path = tmp_path / "mine.json"
  path.write_text('{"num_frames": 9, "fps": 5, "call": {"x": [1]}}')
  config.renderer.preset = str(path)
  config.renderer.settings.update(num_frames=0, fps=0)
  link, (result,) = batch.run(config, tmp_path, "good 1")
  assert link.settings["call"] == {"x": [1]}
  assert result.video.settings["fps"] == result.video.fps == 5
  config.renderer.preset = ""
  config.renderer.settings.num_frames = 9
  with pytest.raises(errors.UserError, match=r"renderer\.settings: set fps"):
    bridge.check(config)
  config.renderer.name = ""
  with pytest.raises(errors.UserError, match=r"set fps, pipeline, dtype"):
    bridge.check(config)
  config.renderer.preset = str(tmp_path / "none.json")
  with pytest.raises(errors.UserError, match=r"none\.json: not a JSON object"):
    bridge.check(config)


def test_an_unknown_preset_is_answered_with_the_known_ones(scripted):
  config, _ = scripted
  config.renderer.preset = "cogvideox"
  with pytest.raises(errors.UserError, match=r"'cogvideox'; known .*cogvideox-2b"):
    bridge.check(config)


def test_the_package_runs_by_its_folder_alone(tmp_path):
  """As in an interpreter of another environment, which lacks the package."""
  package = pathlib.Path(contract.__file__).parent
  output = subprocess.run(
    [sys.executable, "-I", package, "worker", "--help"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert "--job" in output
