"""A user's mistake is one line, and an exit code."""

import pathlib
import subprocess
import sys

import pytest

CONFIG = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict({"batch_size": 4, "optimizer": {"peak_lr": 1e-3}})
"""

SCRIPT = '''"""Does nothing much.

    python script.py --workdir=DIR
"""
import errno, os
from vpo_jax import errors
from vpo_jax.runtime import app

def stage(config, workdir):
  if workdir == "wrong":
    raise errors.UserError("queries.json:3: not a string")
  if workdir == "full":
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/rows.jsonl")
  if workdir == "defect":
    raise ValueError("ours")
  print(config.batch_size, config.optimizer.peak_lr, workdir)

if __name__ == "__main__":
  app.run_stage(stage, CONFIG)
'''


@pytest.fixture
def launch(tmp_path):
  """Runs a launch script; returns its exit code, stdout and stderr."""
  config = tmp_path / "config.py"
  config.write_text(CONFIG)
  script = tmp_path / "script.py"
  script.write_text(SCRIPT.replace("CONFIG)", f"{str(config)!r})"))

  def run(*arguments):
    ran = subprocess.run(
      [sys.executable, script, *arguments],
      capture_output=True,
      text=True,
      check=False,
      cwd=pathlib.Path(__file__).parents[2],
    )
    return ran.returncode, ran.stdout.strip(), ran.stderr.strip()

  return run


def test_flags_and_config_values_reach_the_stage(launch):
  code, out, err = launch("--workdir=w", "--config.optimizer.peak_lr=0.5")
  assert (code, out, err) == (0, "4 0.5 w", "")


@pytest.mark.parametrize(
  ("arguments", "code", "words"),
  [
    (["--workdir=w", "--config.batchsize=1"], 2, 'Did you mean "batch_size"'),
    (["--workdir=w", "--config.max_steps=1"], 2, "--config has no 'max_steps'"),
    (["--workdir=w", "--config.batch_size=x"], 2, "--config.batch_size=x"),
    (["--workdr=w"], 2, "'workdr'"),
    ([], 2, "--workdir"),
    (["--workdir=w", "--config=nothing.py"], 2, "nothing.py"),
    (["--workdir=wrong"], 1, "queries.json:3: not a string"),
    (["--workdir=full"], 1, "runs/x/rows.jsonl: No space left on device"),
  ],
)
def test_a_mistake_is_one_line(launch, arguments, code, words):
  found, out, err = launch(*arguments)
  assert found == code
  assert out == ""
  assert err.startswith("error: ")
  assert words in err
  assert len(err.splitlines()) == 1


def test_a_defect_keeps_its_traceback(launch):
  code, _, err = launch("--workdir=defect")
  assert code == 1
  assert "Traceback" in err


def test_help_is_the_scripts_own_text(launch):
  _, out, err = launch("--help")
  assert "Does nothing much." in out + err
