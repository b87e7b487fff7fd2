"""Functions in a process of their own: results, errors, signals, deaths."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests import waiting
from vpo_jax import errors
from vpo_jax.runtime import child

ROOT = pathlib.Path(__file__).parents[2]


def test_a_result_comes_back_from_another_process():
  assert child.call("work", os.getpid) != os.getpid()
  assert child.call("work", divmod, 7, 2) == (3, 1)


def refuse(line):
  raise errors.UserError(line)


def test_a_user_error_keeps_its_line():
  with pytest.raises(errors.UserError, match=r"^rows\.json:3: no prompt$"):
    child.call("work", refuse, "rows.json:3: no prompt")


def fill_disk():
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights.bin")


def test_a_full_disk_keeps_its_file():
  with pytest.raises(OSError, match="weights") as caught:
    child.call("work", fill_disk)
  assert caught.value.errno == errno.ENOSPC


def test_an_exception_is_shown_by_the_child(capfd):
  with pytest.raises(errors.UserError, match=r"^work: failed with the exception above"):
    child.call("work", divmod, 1, 0)
  assert "ZeroDivisionError" in capfd.readouterr().err


def die(number):
  os.kill(os.getpid(), number)
  time.sleep(60)


def test_a_killed_child_is_a_user_error():
  with pytest.raises(errors.UserError, match=r"work: .*SIGKILL.*out of memory"):
    child.call("work", die, signal.SIGKILL)


def test_an_exit_code_is_passed_on():
  with pytest.raises(SystemExit) as caught:
    child.call("work", sys.exit, 75)
  assert caught.value.code == 75


PROGRAM = """
  import os, pathlib, signal, sys, time
  from vpo_jax.runtime import child

  def work(folder, saves):
    if saves:
      signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    pathlib.Path(folder, "pid").write_text(str(os.getpid()))
    time.sleep(3600)

  if __name__ == "__main__":
    child.call("work", work, sys.argv[1], sys.argv[2] == "saves")
"""


def start(folder, saves="saves"):
  """Starts a parent with a child at work; returns the parent and the child's pid."""
  program = folder / "program.py"
  program.write_text(textwrap.dedent(PROGRAM))
  parent = subprocess.Popen(
    [sys.executable, str(program), str(folder), saves],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
  found = folder / "pid"
  waiting.until(lambda: found.exists() and found.read_text())
  return parent, int(found.read_text())


def is_alive(pid):
  stat = pathlib.Path(f"/proc/{pid}/stat")
  try:
    return stat.read_text().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False


@pytest.mark.parametrize(("saves", "code"), [("saves", 75), ("", 143)])
def test_sigterm_reaches_the_child(tmp_path, saves, code):
  parent, pid = start(tmp_path, saves)
  parent.send_signal(signal.SIGTERM)
  assert parent.wait(waiting.LIMIT_S) == code
  assert not is_alive(pid)


def test_a_child_ends_with_its_parent(tmp_path):
  parent, pid = start(tmp_path)
  parent.kill()
  parent.wait()
  waiting.until(lambda: not is_alive(pid))
