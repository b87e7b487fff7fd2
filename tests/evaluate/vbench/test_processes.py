"""No process of VBench outlives the run that started it, with one GPU or several."""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys

import pytest

from tests import waiting
from tests.evaluate.vbench import conftest, wheel
from vpo_jax.evaluate.vbench import installation, run

SCENE = conftest.of("scene")
CHILD = """
import pickle, sys
from vpo_jax.evaluate.vbench import run
run.evaluate(*pickle.load(open(sys.argv[1], "rb")))
"""


def gone(pid):
  """Whether a process has ended (a zombie has, too)."""
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
  except FileNotFoundError:
    return True
  return state == "Z"


def hang(config, videos, tmp_path, monkeypatch, processes, number):
  """Ends a run that hangs with a signal; returns its exit code and the process ids."""
  monkeypatch.setenv("STAND_IN_FAULT", "hang")
  (tmp_path / "pids").write_text("")
  arguments = installation.find(config), videos, SCENE, 5, tmp_path / "out"
  (tmp_path / "arguments").write_bytes(pickle.dumps(arguments))
  command = [sys.executable, "-c", CHILD, str(tmp_path / "arguments")]
  with subprocess.Popen(command, start_new_session=True) as parent:
    pids = tmp_path / "pids"
    waiting.until(lambda: pids.read_text().count("\n") == processes)
    os.kill(parent.pid, number)
    code = parent.wait(waiting.LIMIT_S)
  return code, [int(pid) for pid in pids.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_vbench_ends_with_its_parent(config, videos, tmp_path, monkeypatch, number):
  code, pids = hang(config, videos, tmp_path, monkeypatch, 1, number)
  assert code == -number
  assert len(pids) == 2  # VBench and a program that it has started
  waiting.until(lambda: all(map(gone, pids)))
  monkeypatch.delenv("STAND_IN_FAULT")
  vbench = installation.find(config)
  assert run.evaluate(vbench, videos, SCENE, 5, tmp_path / "out")["scene"].score > 0


@pytest.fixture
def two_gpus(config, tmp_path):
  """Two processes, started by the real torch.distributed.run."""
  config.python = wheel.interpreter(tmp_path / "python", conftest.STAND_IN)
  config.gpus = 2
  return config


def test_several_gpus_score_as_one(two_gpus, videos, tmp_path):
  chosen = conftest.of("appearance_style")
  vbench = installation.find(two_gpus)
  (found,) = run.evaluate(vbench, videos, chosen, 5, tmp_path / "out").values()
  runs = (tmp_path / "runs").read_text()
  assert sorted(line[-6:] for line in runs.splitlines()) == ["rank=0", "rank=1"]
  assert "device cuda" in (tmp_path / "out" / "appearance_style.log").read_text()
  (path,) = (tmp_path / "out").rglob("*_eval_results.json")
  written, rows = json.loads(path.read_text())["appearance_style"]
  frames = [value for row in rows for value in row["frame_results"]]
  assert found.score == pytest.approx(sum(frames) / len(frames), abs=1e-12)
  assert abs(found.score - written) > 1e-4  # of the last frames only


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_all_of_vbenchs_processes_end_with_the_parent(
  two_gpus, videos, tmp_path, monkeypatch, number
):
  code, pids = hang(two_gpus, videos, tmp_path, monkeypatch, 2, number)
  assert code == -number
  assert len(pids) == 4
  waiting.until(lambda: all(map(gone, pids)))
