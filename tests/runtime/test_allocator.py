"""Scripts that train run with huge pages under glibc."""

import os
import pathlib
import subprocess
import sys

import pytest

from vpo_jax.runtime import allocator

ROOT = pathlib.Path(__file__).parents[2]
HUGE_PAGES = "glibc.malloc.hugetlb=1"

# sitecustomize.py, which Python imports at each start: logs the process and setting.
STARTED = """
import os
with open(os.environ["STARTS"], "a") as file:
  file.write(f"{os.getpid()} {os.environ.get('GLIBC_TUNABLES')}\\n")
"""

# With another C library the program is not executed again.
GLIBC = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())


@pytest.fixture
def starts(tmp_path):
  """Runs a launch script into a user error; returns the settings of its starts."""
  (tmp_path / "sitecustomize.py").write_text(STARTED)
  log = tmp_path / "starts"

  def run(script, *arguments, **environment):
    inherited = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    inherited |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "STARTS": str(log)} | environment
    process = subprocess.Popen(
      [sys.executable, ROOT / "launch" / script, *arguments],
      env=inherited,
      stderr=subprocess.PIPE,
      text=True,
    )
    stderr = process.communicate()[1]
    assert "error: " in stderr
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    return [setting for pid, setting in lines if int(pid) == process.pid]

  return run


TRAINS = [
  ("train_sft.py", "--workdir=w", "--config=nothing.py"),
  ("train_dpo.py", "--workdir=w", "--config=nothing.py"),
  ("pipeline.py", "--workdir=w", "--config=nothing.py"),
  ("bench.py", "--stage=sft", "--queries=nothing.json"),
]


@pytest.mark.parametrize("command", TRAINS, ids=lambda command: command[0])
def test_the_process_executes_itself_again_with_huge_pages(starts, command):
  assert starts(*command) == (["None", HUGE_PAGES] if GLIBC else ["None"])


@pytest.mark.parametrize("setting", ["", "glibc.malloc.arena_max=2"])
def test_a_users_setting_is_kept(starts, setting):
  assert starts(*TRAINS[0], GLIBC_TUNABLES=setting) == [setting]


def test_other_programs_get_the_users_environment(monkeypatch):
  monkeypatch.setenv("GLIBC_TUNABLES", HUGE_PAGES)
  assert "GLIBC_TUNABLES" not in allocator.user_environment()
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
  assert allocator.user_environment() == dict(os.environ)
