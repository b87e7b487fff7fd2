"""VBench runs in another interpreter, and only a complete result file counts."""

import json
import shutil

import pytest

from tests.evaluate.vbench import conftest, wheel
from vpo_jax import errors
from vpo_jax.evaluate.vbench import installation, layout, prompts, run

CHOSEN, SCENE = conftest.CHOSEN, conftest.of("scene")


def evaluate(config, videos, tmp_path, chosen=CHOSEN):
  return run.evaluate(installation.find(config), videos, chosen, 5, tmp_path / "out")


def ran(tmp_path):
  path = tmp_path / "runs"
  return [line.split()[0] for line in path.read_text().split("\n") if line]


def test_each_dimension_is_scored_once(config, videos, tmp_path):
  found = evaluate(config, videos, tmp_path)
  assert sorted(ran(tmp_path)) == sorted(found) == sorted(prompts.PAPER)
  for name, result in found.items():
    assert list(result.values) == layout.expected(CHOSEN, 5, name)
    assert 0 < result.score < 1
    assert "device cpu" in (tmp_path / "out" / f"{name}.log").read_text()
  assert evaluate(config, videos, tmp_path) == found
  assert len(ran(tmp_path)) == 4


def test_a_changed_video_is_scored_again_in_its_dimension(config, videos, tmp_path):
  first = evaluate(config, videos, tmp_path)
  (text,) = [prompt.text for prompt in SCENE][:1]
  path = videos / layout.name(text, 3)
  path.unlink()
  path.write_text("another video")
  second = evaluate(config, videos, tmp_path)
  assert ran(tmp_path)[4:] == ["scene"]
  changed = [v for v in first["scene"].values if v[0] == text and v[1] == 3]
  for video, value in second["scene"].values.items():
    if video not in changed:
      assert value == first["scene"].values[video]


@pytest.mark.parametrize(
  "damage", ["scene.json", "scene/results_scene_eval_results.json"]
)
def test_a_damaged_result_is_made_again(config, videos, tmp_path, damage):
  found = evaluate(config, videos, tmp_path, SCENE)
  path = tmp_path / "out" / damage
  path.write_bytes(path.read_bytes()[:20])
  assert evaluate(config, videos, tmp_path, SCENE) == found
  assert ran(tmp_path) == ["scene"] * 2


FAULTS = {
  "silent": r"no result file; .* exit code 0; .*\| RuntimeError: CUDA out of memory",
  "misses": "found 9 of 10 videos",
  "nan": "nan is not a finite number",
  "torn": "not JSON: .*killed by SIGKILL",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_without_a_complete_result_fails(
  config, videos, tmp_path, monkeypatch, fault
):
  monkeypatch.setenv("STAND_IN_FAULT", fault)
  for _ in range(2):
    with pytest.raises(errors.UserError, match=FAULTS[fault]) as raised:
      evaluate(config, videos, tmp_path, SCENE)
    assert "\n" not in str(raised.value)
    assert f"log: {tmp_path / 'out' / 'scene.log'}" in str(raised.value)
  monkeypatch.delenv("STAND_IN_FAULT")
  assert evaluate(config, videos, tmp_path, SCENE)["scene"].score > 0
  assert len(ran(tmp_path)) == 3


def test_a_failure_after_the_result_is_no_failure(
  config, videos, tmp_path, monkeypatch
):
  monkeypatch.setenv("STAND_IN_FAULT", "late")
  found = evaluate(config, videos, tmp_path, SCENE)
  record = json.loads((tmp_path / "out" / "scene.json").read_text())
  assert record["exit_code"] == 1
  assert evaluate(config, videos, tmp_path, SCENE) == found
  assert ran(tmp_path) == ["scene"]


def test_missing_videos_are_an_error_before_vbench_starts(config, videos, tmp_path):
  (videos / layout.name(SCENE[0].text, 4)).unlink()
  with pytest.raises(errors.UserError, match="missing: 1 of 10 of scene"):
    evaluate(config, videos, tmp_path)
  assert not (tmp_path / "runs").exists()


def test_the_models_folder_is_handed_on(config, videos, tmp_path):
  config.cache_dir = str(tmp_path / "models")
  evaluate(config, videos, tmp_path, SCENE)
  log = (tmp_path / "out" / "scene.log").read_text()
  assert f"models in {tmp_path / 'models'}" in log
  assert "local=True" in (tmp_path / "runs").read_text()


def test_the_code_of_vbench_is_part_of_what_a_result_was_made_from(
  config, videos, tmp_path
):
  copy = tmp_path / "copy"
  shutil.copytree(conftest.STAND_IN, copy)
  config.python = wheel.interpreter(tmp_path / "python2", copy, tmp_path / "torch")
  evaluate(config, videos, tmp_path, SCENE)
  with (copy / "vbench" / "distributed.py").open("a") as file:
    file.write("# changed\n")
  evaluate(config, videos, tmp_path, SCENE)
  assert ran(tmp_path) == ["scene", "scene"]
