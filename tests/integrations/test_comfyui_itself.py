"""The nodes in ComfyUI.

COMFYUI="/path/to/python /path/to/ComfyUI/main.py" names it; it starts headless on CPU.
"""

import json
import os
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.integrations import test_comfyui
from tests.serve import live
from vpo_jax.serve import web

COMMAND = os.environ.get("COMFYUI", "")
FLAGS = ("--cpu", "--disable-api-nodes", "--database-url=sqlite:///:memory:")
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not COMMAND, reason="COMFYUI does not name a ComfyUI"),
]


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
  """The address of a ComfyUI that has only these nodes."""
  base = tmp_path_factory.mktemp("comfyui")
  for name in ("custom_nodes", "input", "models", "output", "user"):
    (base / name).mkdir()
  (base / "custom_nodes" / "vpo").symlink_to(test_comfyui.FOLDER)
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
  process = subprocess.Popen(
    [*shlex.split(COMMAND), *FLAGS, f"--base-directory={base}", f"--port={port}"],
    env=own,
  )
  address = f"http://127.0.0.1:{port}"
  try:
    until = time.monotonic() + 300
    while time.monotonic() < until:
      try:
        fetch(f"{address}/system_stats")
        break
      except urllib.error.URLError:
        assert process.poll() is None
        time.sleep(1)
    yield address
  finally:
    process.terminate()
    process.wait()


def fetch(url, body=None):
  data = json.dumps(body).encode() if body else None
  with urllib.request.urlopen(url, data, timeout=60) as response:
    return json.load(response)


def run(comfyui, workflow):
  """The history of a workflow that has ended: outputs, and messages by name."""
  number = fetch(f"{comfyui}/prompt", {"prompt": workflow})["prompt_id"]
  while not (history := fetch(f"{comfyui}/history/{number}")):
    time.sleep(0.1)
  entry = history[number]
  return entry["outputs"], dict(entry["status"]["messages"])


def test_the_example_runs_and_is_reused(comfyui, scripted):
  with live.serving(web.make(scripted(test_comfyui.GOOD))) as address:
    outputs, messages = run(comfyui, test_comfyui.example(url=address))
    again, cached = run(comfyui, test_comfyui.example(url=address))
  prompt = f'sks, {test_comfyui.GOOD} With the words "OPEN".'
  assert outputs["2"]["text"] == [prompt]
  assert outputs["3"]["text"] == ["OPEN: repaired\nsks: repaired\nattempts: 3"]
  assert messages["execution_cached"]["nodes"] == []
  assert again == outputs
  assert cached["execution_cached"]["nodes"] == ["1", "2", "3"]


def test_an_error_names_the_node_and_the_reason(comfyui, scripted):
  with live.serving(web.make(scripted(test_comfyui.GOOD))) as address:
    _, messages = run(comfyui, test_comfyui.example(url=address, query=" "))
  error = messages["execution_error"]
  assert error["node_type"] == "VPOOptimizeServer"
  assert error["exception_message"].strip() == f"{address}: query is empty"


def test_it_knows_both_nodes(comfyui):
  known = fetch(f"{comfyui}/object_info")
  for name in ("VPOOptimizeServer", "VPOOptimizeInProcess"):
    assert known[name]["output_name"] == ["prompt", "report", "negative_prompt"]
