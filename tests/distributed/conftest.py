"""Starts a launch script as several processes that communicate over loopback."""

import json
import os
import pathlib
import runpy
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# The rows and the config of the tests of training.
_train = runpy.run_path(str(ROOT / "tests" / "train" / "conftest.py"))
rows, make_config = _train["rows"], _train["make_config"]

SPY = '''
"""Runs the script; logs the examples of each micro-batch that this process builds.

The process whose number is in the environment variable HANGS hangs in the CALL-th
micro-batch that it builds, or block that it samples, for the function WHERE.
"""
import itertools, json, os, runpy, sys, time
log, script, sys.argv = sys.argv[1], sys.argv[2], sys.argv[2:]
from vpo_jax.data import forest
from vpo_jax.sample import schedule
calls = itertools.count(1)
def may_hang():
  if f"--process_id={os.environ.get('HANGS')}" not in sys.argv:
    return
  frame = sys._getframe(1)
  while frame and os.environ["WHERE"] not in frame.f_code.co_qualname:
    frame = frame.f_back
  if frame and next(calls) == int(os.environ["CALL"]):
    open(log + ".hangs", "w").close()
    time.sleep(1000)
block = schedule.Scheduler.step
def stepped(self):
  may_hang()
  return block(self)
schedule.Scheduler.step = stepped
build = forest.build
def logged(examples, shape, micro, reference=None, reward_XE=None, groups=None):
  may_hang()
  own = [i for group in groups for row in micro[group] for i in row]
  with open(log, "a") as file:
    file.write(json.dumps([examples[i].id for i in own]) + "\\n")
  return build(examples, shape, micro, reference, reward_XE, groups)
forest.build = logged
runpy.run_path(script, run_name="__main__")
'''


class Run:
  """The processes of one run, and the output of each."""

  def __init__(self, folder, launch, config, workdir, count, devices, arguments=()):
    folder.mkdir(exist_ok=True)
    self.folder = folder
    (folder / "config.py").write_text(
      "import json, ml_collections\n"
      f"values = json.loads({config.to_json()!r})\n"
      "def get_config():\n  return ml_collections.ConfigDict(values)\n"
    )
    (folder / "spy.py").write_text(SPY)
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
      "PYTHONPATH": str(ROOT),
    }
    self.processes = []
    for index in range(count):
      command = [
        *(sys.executable, folder / "spy.py", folder / f"rows{index}"),
        *(ROOT / "launch" / launch, f"--config={folder / 'config.py'}"),
        *(f"--workdir={workdir}", *arguments),
      ]
      if count > 1:
        command += [
          f"--coordinator_address={address}",
          f"--num_processes={count}",
          f"--process_id={index}",
        ]
      with (folder / f"output{index}").open("w") as output:
        self.processes.append(
          subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        )

  def wait(self, timeout=180):
    """The exit codes of all processes."""
    try:
      return [process.wait(timeout) for process in self.processes]
    finally:
      for process in self.processes:
        process.kill()

  def output(self, index):
    return (self.folder / f"output{index}").read_text()

  def ends_with(self, index, line):
    """Whether the last line that a process wrote, soon after its end, begins so."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
      last = self.output(index).strip().split("\n")[-1]
      if last.startswith(line):
        return True
      time.sleep(0.1)  # its stacks are written by a program that ends after it
    return False

  def hangs(self, index):
    return (self.folder / f"rows{index}.hangs").exists()

  def rows(self, index):
    """The ids of the examples of each micro-batch that the process built."""
    return [
      json.loads(x) for x in (self.folder / f"rows{index}").read_text().split("\n") if x
    ]


@pytest.fixture
def launch(tmp_path):
  """`launch(script, config, workdir, count, devices)` starts a `Run`."""
  runs = []

  def start(*arguments, **changes):
    runs.append(Run(tmp_path / f"run{len(runs)}", *arguments, **changes))
    return runs[-1]

  yield start
  for run in runs:
    for process in run.processes:
      process.kill()
