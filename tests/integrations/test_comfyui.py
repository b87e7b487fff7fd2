"""ComfyUI's nodes, in workflows, with the project's server and in process."""

import contextlib
import copy
import dataclasses
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import tomllib

import pytest

from tests.integrations import comfyui_contract
from tests.serve import live
from vpo_jax import errors, records
from vpo_jax.promises import targets
from vpo_jax.sample import generate
from vpo_jax.serve import web

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "integrations" / "comfyui"
EXAMPLE = json.loads((FOLDER / "example_workflow.json").read_text())
GOOD = "A neon sign glows over a wet street at night while the rain falls."


@pytest.fixture(scope="module")
def package():
  return comfyui_contract.load(FOLDER)


@pytest.fixture
def executor(package):
  return comfyui_contract.Executor(package.NODE_CLASS_MAPPINGS)


def example(**changes):
  """The example workflow with other inputs of its first node."""
  workflow = copy.deepcopy(EXAMPLE)
  workflow["1"]["inputs"] |= changes
  return workflow


def in_process(**changes):
  """The same workflow with the node that needs no server."""
  workflow = example()
  del workflow["1"]["inputs"]["url"]
  workflow["1"]["class_type"] = "VPOOptimizeInProcess"
  workflow["1"]["inputs"] |= {"model": "", "predictor": "", **changes}
  return workflow


def with_negative(workflow):
  """The workflow, which also shows the negative prompt."""
  return workflow | {"4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}}}


def test_the_nodes_fulfil_the_contract(package):
  nodes = package.NODE_CLASS_MAPPINGS
  assert set(nodes) == set(package.NODE_DISPLAY_NAME_MAPPINGS)
  assert len(nodes) == 2
  for node in nodes.values():
    comfyui_contract.check(node)


def test_the_example_gets_its_prompt_from_a_server(executor, scripted):
  service = scripted(GOOD)
  with live.serving(web.make(service)) as address:
    shown = executor.run(example(url=f"{address}/", seed=7, temperature=1))
  assert shown["2"] == f'sks, {GOOD} With the words "OPEN".'
  assert shown["3"] == "OPEN: repaired\nsks: repaired\nattempts: 3"
  (_, sampling), *_ = service.engine.requests
  assert (sampling.seed, sampling.temperature, sampling.num_candidates) == (7, 1.0, 1)


def test_only_a_changed_input_asks_the_server_again(executor, scripted):
  with live.serving(web.make(scripted(GOOD))) as address:
    first = executor.run(example(url=address, seed=7))
    assert executor.executed == ["1", "2", "3"]
    assert executor.run(example(url=address, seed=7)) == first
    assert executor.executed == []
    executor.run(example(url=address, seed=8))
    assert "1" in executor.executed


def test_a_targets_limit_and_negative_prompt(executor, scripted):
  target = targets.load("miniature")
  tokens = target.count(GOOD)
  service = dataclasses.replace(scripted(GOOD), targets=(target,))
  query = {"query": "a neon sign --no rain", "keep": ""}
  with live.serving(web.make(service)) as address:
    asked = example(url=address, target="miniature", **query)
    shown = executor.run(with_negative(asked))
    without = executor.run(with_negative(example(url=address, **query)))
    with pytest.raises(RuntimeError, match="unknown target 'sora'; this server has"):
      executor.run(example(url=address, target="sora"))
  assert shown["3"] == f"length: {tokens} tokens, kept\nattempts: 1"
  assert shown["4"] == "rain"
  assert without["4"] == ""


@contextlib.contextmanager
def recording(answer, status=200):
  """A server with one answer, and the bodies that it is sent."""
  bodies = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
      self.send_response(status)
      self.end_headers()
      self.wfile.write(answer.encode())

    def log_message(self, *_):
      pass

  with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()


NOTHING = {"spans": {}, "tokens": None, "budget": None, "negative_prompt": None}
ANSWER = json.dumps({"prompt": GOOD, "attempts": 1, **NOTHING})


def test_inputs_without_a_value_are_not_sent(executor):
  with recording(ANSWER) as (address, bodies):
    shown = executor.run(example(url=address, target="", keep=" ,\n", best_of=1))
    changes = {
      "target": "cogvideox-5b",
      "keep": "sks dog,Mia\n<lora:x:1>",
      "best_of": 8,
    }
    executor.run(example(url=address, **changes))
  assert shown == {"2": GOOD, "3": "no protected spans\nattempts: 1"}
  first = {key: EXAMPLE["1"]["inputs"][key] for key in ("query", "seed", "temperature")}
  assert bodies[0] == first
  keep = ["sks dog", "Mia", "<lora:x:1>"]
  assert bodies[1] == {**first, "target": "cogvideox-5b", "keep": keep, "best_of": 8}


def test_errors_of_the_server_are_one_line(executor, url):
  for changes, line in (
    ({"query": " "}, "query is empty"),
    ({"best_of": 2}, "best_of=2: the server was started without --predictor; omit it"),
    ({"keep": "<|im_end|>"}, "keep contains <|im_end|>, a special token"),
    # A random model writes nothing that the guard accepts.
    ({}, "the prompt breaks off after 512 tokens; tried 3 times"),
  ):
    with pytest.raises(RuntimeError) as caught:
      executor.run(example(url=url, **changes))
    assert str(caught.value).startswith(f"{url}: {line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("answer", "status", "line"),
  [
    ("<html>", 200, "the answer is not a VPO server's"),
    ("[]", 200, "the answer is not a VPO server's"),
    ("<html>", 502, "HTTP 502 Bad Gateway"),
  ],
)
def test_another_server_is_recognized(executor, answer, status, line):
  with (
    recording(answer, status) as (address, _),
    pytest.raises(RuntimeError) as caught,
  ):
    executor.run(example(url=address))
  assert str(caught.value) == f"{address}: {line}"


def test_an_address_without_a_server_is_named(executor):
  with recording("") as (address, _):
    pass
  for url, line in (
    (address, "refused; is launch/serve.py running there?"),
    ("localhost:8000", "must start with http:// or https://"),
    ("file:///etc/hostname", "must start with http:// or https://"),
  ):
    with pytest.raises(RuntimeError) as caught:
      executor.run(example(url=url))
    assert url in str(caught.value)
    assert str(caught.value).endswith(line)


def run_without_packages(workflow):
  """Executes a workflow with Python's standard library alone; prints the prompt."""
  code = f"""
import json, pathlib, sys
sys.path.append({str(ROOT / "tests" / "integrations")!r})
import comfyui_contract
package = comfyui_contract.load(pathlib.Path({str(FOLDER)!r}))
executor = comfyui_contract.Executor(package.NODE_CLASS_MAPPINGS)
print(executor.run(json.load(sys.stdin))["2"])
"""
  return subprocess.run(
    [sys.executable, "-I", "-S", "-c", code],
    input=json.dumps(workflow),
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_node_of_a_server_needs_only_the_standard_library(scripted):
  with live.serving(web.make(scripted(GOOD))) as address:
    ran = run_without_packages(example(url=address, query="a neon sign", keep=""))
  assert ran.stdout == f"{GOOD}\n", ran.stderr


def test_the_node_in_process_names_a_missing_package():
  line = run_without_packages(in_process(model="runs/mine/vpo")).stderr.splitlines()[-1]
  assert line.startswith("RuntimeError: vpo_jax is not installed: install vpo-jax into")


@pytest.fixture
def answers(monkeypatch):
  """Replaces the sampler in process; returns its models and settings, call by call."""

  def answer(text):
    calls = []

    def stream(policy, prompts, sampling, **_):
      calls.append((policy, sampling))
      yield 0, (records.Candidate(0, text, "stop", 4),)

    monkeypatch.setattr(generate, "stream", stream)
    return calls

  return answer


def test_both_nodes_show_the_same(executor, scripted, answers, tiny_model):
  asked = {"query": 'a sign, "OPEN" --no rain', "target": "miniature", "seed": 3}
  target = targets.load("miniature")
  service = dataclasses.replace(scripted(GOOD), targets=(target,))
  with live.serving(web.make(service)) as address:
    theirs = executor.run(with_negative(example(url=address, **asked)))
  answers(GOOD)
  shown = executor.run(with_negative(in_process(model=str(tiny_model), **asked)))
  assert shown["3"] == "OPEN: repaired\nsks: repaired\nlength: 24 tokens, kept"
  assert theirs == {**shown, "3": f"{shown['3']}\nattempts: 3"}


def test_a_model_in_process_is_loaded_once(executor, answers, tiny_model):
  calls = answers(GOOD)
  executor.run(in_process(model=str(tiny_model), query="a sign", keep="", seed=3))
  executor.run(in_process(model=str(tiny_model), query="a sign", keep="", seed=3))
  executor.run(in_process(model=f" {tiny_model}", query="a sign", keep="", seed=4))
  (first, one), (second, two) = calls
  assert first is second
  assert (one.seed, two.seed, one.temperature) == (3, 4, 0.7)


def test_errors_in_process_are_one_line(executor, answers, tiny_model):
  answers("")
  model = str(tiny_model)
  for changes, line in (
    ({"query": " "}, "query is empty"),
    ({"model": ""}, "model is empty"),
    ({"model": "/missing"}, "model '/missing': neither a directory nor a valid hub id"),
    ({"best_of": 2}, "best_of=2: needs Rewriter(..., predictor=...)"),
    ({"query": "a sign"}, "the prompt is empty; choose another seed"),
  ):
    with pytest.raises((RuntimeError, errors.UserError)) as caught:
      executor.run(in_process(**{"model": model, **changes}))
    assert str(caught.value) == line


def test_the_registry_gets_the_projects_version():
  projects = [
    tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    for folder in (ROOT, FOLDER)
  ]
  assert len({project["version"] for project in projects}) == 1
  assert projects[1]["dependencies"] == []
