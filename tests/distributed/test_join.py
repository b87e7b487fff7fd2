"""Processes find each other; a single process runs without coordination."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests import waiting

ROOT = pathlib.Path(__file__).parents[2]
# It answers in a file, because gloo's threads print into each other's lines.
SCRIPT = """
import os, pathlib, signal, sys, time
from vpo_jax.runtime import console, processes
processes.join()
import jax
processes.barrier("started")
if os.environ.get("DIES") == str(processes.index):
  os.kill(os.getpid(), signal.SIGKILL)
if "DIES" in os.environ:
  time.sleep(60)
console.say("hello")
counts = processes.index, processes.count, jax.process_count(), jax.local_device_count()
pathlib.Path(sys.argv[1]).write_text(" ".join(map(str, counts)))
if "STUCK" in os.environ:
  processes.LEAVING = 1
  jax.distributed.shutdown = lambda: time.sleep(1000)
processes.leave(int(os.environ.get("STUCK", 0)))
"""


@pytest.fixture
def start(tmp_path):
  """`start(**environment)`: a process with two host devices, ended with the test.

  The n-th answers in `tmp_path`'s `answer{n}`.
  """
  started = []

  def start_one(**environment):
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))}
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    answer = tmp_path / f"answer{len(started)}"
    process = subprocess.Popen(
      [sys.executable, "-c", SCRIPT, answer],
      env=rest | flags | environment,
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    started.append(process)
    return process

  yield start_one
  for process in started:
    with process:  # closes its pipe, and waits
      process.kill()


def tasks_of(start, count, **environment):
  """A SLURM step's processes."""
  return [
    start(
      SLURM_JOB_ID=str(os.getpid()),  # JAX derives the port from it
      SLURM_STEP_NODELIST="localhost",
      SLURM_NTASKS=str(count),
      SLURM_PROCID=str(index),
      SLURM_LOCALID=str(index),
      **environment,
    )
    for index in range(count)
  ]


@pytest.mark.parametrize("tasks", [1, 2])
def test_slurm_tasks_are_processes(start, tmp_path, tasks):
  """A single task keeps all devices of its node; JAX would take one."""
  for index, process in enumerate(tasks_of(start, tasks)):
    out, err = process.communicate(timeout=waiting.LIMIT_S)
    assert process.returncode == 0, err
    assert "hello" not in out
    assert tasks > 1 or not out  # a single process has no gloo
    assert (tmp_path / f"answer{index}").read_text() == f"{index} {tasks} {tasks} 2"
    assert ("hello" in err) == (index == 0)


def test_without_a_cluster_a_process_is_alone(start, tmp_path):
  process = start()
  out, err = process.communicate(timeout=waiting.LIMIT_S)
  assert (tmp_path / "answer0").read_text() == "0 1 1 2"
  assert (out, err.strip()) == ("", "hello")


def test_a_process_that_cannot_disconnect_leaves(start, tmp_path):
  for process in tasks_of(start, 2, STUCK="75"):
    _, err = process.communicate(timeout=waiting.LIMIT_S)
    assert process.returncode == 75, err


def test_a_process_whose_peer_died_reports_it_and_exits(start):
  """Process 0 runs JAX's coordinator; without it, C++ code aborts the others."""
  first, second = tasks_of(start, 2, DIES="0")
  _, err = second.communicate(timeout=waiting.LIMIT_S)
  first.communicate()
  assert second.returncode == -signal.SIGABRT
  assert "(most recent call first)" in err  # the stacks of its threads
  assert (
    err.strip()
    .split("\n")[-1]
    .startswith("error: process 1: this process waited for another one, which has died")
  )


def test_an_error_of_its_own_is_never_called_a_wait_for_others():
  """Its traceback comes first, then one line that names it."""
  code = (
    "from vpo_jax.runtime import app, processes\n"
    "processes.count = 2\n"
    "app._guarded(lambda: [][1])\n"
  )
  ran = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert ran.returncode == 1
  first, *_, last = ran.stderr.strip().splitlines()
  assert first == "Traceback (most recent call last):"
  assert last.startswith("error: ")
  assert last.endswith("IndexError, see above")
