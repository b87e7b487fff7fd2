"""What trains runs with huge pages under glibc, however it was started."""

import os
import pathlib
import subprocess
import sys

import pytest

from vpo_jax.runtime import allocator

ROOT = pathlib.Path(__file__).parents[2]
OURS = "glibc.malloc.hugetlb=1"

# Python imports it whenever it starts: writes down the process and its setting.
STARTED = """
import os
with open(os.environ["STARTS"], "a") as file:
  file.write(f"{os.getpid()} {os.environ.get('GLIBC_TUNABLES')}\\n")
"""

# Another C library would not understand it: there nothing begins anew.
GLIBC = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())


@pytest.fixture
def starts(tmp_path):
  """Runs a launch script to a mistake of the user's; the settings it started with."""
  (tmp_path / "sitecustomize.py").write_text(STARTED)
  log = tmp_path / "starts"

  def run(script, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    kept |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "STARTS": str(log)} | environment
    process = subprocess.Popen(
      [sys.executable, ROOT / "launch" / script, *arguments],
      env=kept,
      stderr=subprocess.PIPE,
      text=True,
    )
    said = process.communicate()[1]
    assert "error: " in said
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
def test_the_same_process_begins_anew_with_huge_pages(starts, command):
  assert starts(*command) == (["None", OURS] if GLIBC else ["None"])


@pytest.mark.parametrize("own", ["", "glibc.malloc.arena_max=2"])
def test_a_users_own_setting_stays(starts, own):
  assert starts(*TRAINS[0], GLIBC_TUNABLES=own) == [own]


def test_a_program_that_is_not_ours_gets_the_users_environment(monkeypatch):
  monkeypatch.setenv("GLIBC_TUNABLES", OURS)
  assert "GLIBC_TUNABLES" not in allocator.user_environment()
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
  assert allocator.user_environment() == dict(os.environ)
