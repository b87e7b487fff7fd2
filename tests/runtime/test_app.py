"""A launch script: flags and config reach the stage; a user error is one line."""

import pathlib
import subprocess
import sys

import pytest

CONFIG = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict({"batch_size": 4, "optimizer": {"peak_lr": 1e-3}})
"""

STAGE = """
import errno, os
from vpo_jax import errors, stages

def run(work):
  if work.workdir.name == "wrong":
    raise errors.UserError("queries.json:3: not a string")
  if work.workdir.name == "full":
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/rows.jsonl")
  if work.workdir.name == "defect":
    raise ValueError("a defect")
  return {"sizes": work.config.batch_size, "rate": work.config.optimizer.peak_lr}

STAGE = stages.Stage("example", run)
"""

SCRIPT = '''"""Does nothing much.

    python script.py --workdir=DIR
"""
from vpo_jax.runtime import app

if __name__ == "__main__":
  app.run_stage("stage", CONFIG)
'''


@pytest.fixture
def launch(tmp_path):
  """Runs a launch script; returns its exit code, stdout and stderr."""
  (tmp_path / "config.py").write_text(CONFIG)
  (tmp_path / "stage.py").write_text(STAGE)
  script = tmp_path / "script.py"
  script.write_text(SCRIPT.replace("CONFIG", repr(str(tmp_path / "config.py"))))
  root = pathlib.Path(__file__).parents[2]

  def run(*arguments):
    ran = subprocess.run(
      [sys.executable, script, *arguments],
      capture_output=True,
      text=True,
      check=False,
      cwd=root,
      env={"PYTHONPATH": str(root)},
    )
    return ran.returncode, ran.stdout.strip(), ran.stderr.strip()

  return run


def test_flags_and_config_values_reach_the_stage(launch, tmp_path):
  result = launch(f"--workdir={tmp_path / 'w'}", "--config.optimizer.peak_lr=0.5")
  assert result == (0, "", "sizes=4 rate=0.5")
  assert (tmp_path / "w" / "example" / "manifest.json").exists()


@pytest.mark.parametrize(
  ("arguments", "code", "words"),
  [
    (["--workdir=w", "--config.batchsize=1"], 2, 'Did you mean "batch_size"'),
    (["--workdir=w", "--config.max_steps=1"], 2, "--config has no 'max_steps'"),
    (["--workdir=w", "--config.batch_size=x"], 2, "--config.batch_size=x"),
    (["--workdr=w"], 2, "'workdr'"),
    ([], 2, "--workdir"),
    (["--workdir=w", "--config=nothing.py"], 2, "nothing.py"),
    (["--workdir={}/wrong"], 1, "queries.json:3: not a string"),
    (["--workdir={}/full"], 1, "runs/x/rows.jsonl: No space left on device"),
  ],
)
def test_a_user_error_is_one_line(launch, tmp_path, arguments, code, words):
  found, out, err = launch(*(one.format(tmp_path) for one in arguments))
  assert found == code
  assert out == ""
  assert err.startswith("error: ")
  assert words in err
  assert len(err.splitlines()) == 1


def test_a_defect_keeps_its_traceback(launch, tmp_path):
  code, _, err = launch(f"--workdir={tmp_path / 'defect'}")
  assert code == 1
  assert "Traceback" in err


def test_help_shows_the_docstring_the_flags_and_the_config_keys(launch):
  code, out, err = launch("--help")
  assert (code, err) == (0, "")
  assert out.startswith("Does nothing much.")
  assert "--workdir" in out
  assert "optimizer.peak_lr=0.001" in out
