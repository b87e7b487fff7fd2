"""Two runs of one workdir: the second says so and leaves."""

import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from tests import waiting
from vpo_jax import errors
from vpo_jax.runtime import lock

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import sys
from etils import epath
from vpo_jax.runtime import lock
with lock.held(epath.Path(sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


OTHER = {"namespace": 0, "pid": 1, "started": 0.0, "token": "a", "beat": 0}


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path) / "work" / ".sample.lock"


def start(path):
  """Another process that takes the lock and holds it until its input is closed."""
  return subprocess.Popen(
    [sys.executable, "-c", HOLD, str(path)],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def hold(path):
  """Another process that holds the lock."""
  process = start(path)
  assert process.stdout
  assert process.stdout.readline() == "held\n"
  return process


def test_a_second_run_is_refused_until_the_first_has_ended(path):
  with hold(path) as first:
    message = f"another run is at work here \\(process {first.pid} on "
    with pytest.raises(errors.UserError, match=message), lock.held(path):
      pass
    assert json.loads(path.read_text())["pid"] == first.pid
    first.kill()
  with lock.held(path):
    assert json.loads(path.read_text())["pid"] != first.pid
  assert not path.exists()


def test_the_lock_of_a_reused_process_number_is_stale(path, capsys):
  with hold(path) as first:
    content = json.loads(path.read_text())
    first.terminate()
  content |= {"pid": 1, "started": content["started"] - 1000}
  path.write_text(json.dumps(content))
  with lock.held(path):
    pass
  assert (
    "taking over from a run that has ended (process 1 on" in capsys.readouterr().err
  )


@pytest.mark.parametrize("beats", [True, False])
def test_on_another_machine_a_heartbeat_tells_who_lives(path, monkeypatch, beats):
  monkeypatch.setattr(lock, "SILENCE", 1.0)
  content = OTHER | {"host": "elsewhere"}
  path.parent.mkdir()
  path.write_text(json.dumps(content))
  done = threading.Event()

  def beat():
    while not done.wait(0.2):
      content["beat"] += 1
      path.write_text(json.dumps(content))

  thread = threading.Thread(target=beat)
  if beats:
    thread.start()
    refused = pytest.raises(errors.UserError, match=r"process 1 on elsewhere")
    with refused, lock.held(path):
      pass
    done.set()
    thread.join()
  else:
    with lock.held(path):
      assert json.loads(path.read_text())["host"] != "elsewhere"


def test_a_process_id_of_another_container_says_nothing(path, monkeypatch):
  """Containers on one machine may have its name, but process ids of their own."""
  monkeypatch.setattr(lock, "SILENCE", 1.0)
  content = OTHER | {"host": socket.gethostname(), "namespace": 1}
  path.parent.mkdir()
  path.write_text(json.dumps(content))
  began = time.monotonic()
  with lock.held(path):
    assert time.monotonic() - began >= 1.0  # it waited for a heartbeat


def test_a_heartbeat_is_written(path, monkeypatch):
  monkeypatch.setattr(lock, "BEAT", 0.05)
  with lock.held(path):
    waiting.until(lambda: json.loads(path.read_text())["beat"] >= 3)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_lock_is_taken_over(path, monkeypatch, content):
  monkeypatch.setattr(lock, "SILENCE", 0.5)
  path.parent.mkdir()
  path.write_text(content)
  with lock.held(path):
    assert json.loads(path.read_text())["token"]


def test_of_many_that_start_together_one_gets_a_stale_lock(path):
  with hold(path) as first:
    first.kill()
  started = [start(path) for _ in range(4)]
  waiting.until(lambda: sum(one.poll() is not None for one in started) == 3)
  outputs = [process.communicate(timeout=waiting.LIMIT_S) for process in started]
  assert sorted(out for out, _ in outputs) == ["", "", "", "held\n"]
  assert all("another run is at work" in err for out, err in outputs if not out)
