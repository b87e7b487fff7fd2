"""Processes find each other, and one that is alone notices nothing."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import os, signal, time
from vpo_jax import console, processes
processes.join()
import jax
processes.meet("here")
if os.environ.get("DIES") == str(processes.index):
  os.kill(os.getpid(), signal.SIGKILL)
if "DIES" in os.environ:
  time.sleep(60)
console.say("spoken")
print(processes.index, processes.count, jax.process_count(), jax.local_device_count())
processes.leave()
"""


def tasks_of(count, **environment):
  """A SLURM step's processes."""
  return [
    start(
      SLURM_JOB_ID=str(os.getpid()),  # JAX makes the port of it
      SLURM_STEP_NODELIST="localhost",
      SLURM_NTASKS=str(count),
      SLURM_PROCID=str(index),
      SLURM_LOCALID=str(index),
      **environment,
    )
    for index in range(count)
  ]


def start(**environment):
  """A process in an environment of its own, with two host devices."""
  kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))}
  flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
  return subprocess.Popen(
    [sys.executable, "-c", SCRIPT],
    env=kept | flags | environment,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.parametrize("tasks", [1, 2])
def test_slurms_tasks_are_processes(tasks):
  """One task alone keeps all devices of its node; JAX would take one."""
  started = tasks_of(tasks)
  for index, process in enumerate(started):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    # Gloo prints of its connections from a thread of its own, before or after.
    said = [line for line in out.splitlines() if "[Gloo]" not in line]
    assert said == [f"{index} {tasks} {tasks} 2"]
    assert ("spoken" in err) == (index == 0)


def test_without_a_cluster_it_is_alone():
  process = start()
  out, err = process.communicate(timeout=120)
  assert (out.strip(), err.strip()) == ("0 1 1 2", "spoken")


def test_a_process_whose_peer_died_says_so_and_leaves():
  """Process 0 has JAX's watch, whose end is a C++ abort in the others."""
  first, second = tasks_of(2, DIES="0")
  _, err = second.communicate(timeout=60)
  first.communicate()
  assert second.returncode == 1
  assert (
    err.strip()
    .splitlines()[-1]
    .startswith(
      "error: process 1: another process of this run has died or does not answer"
    )
  )
