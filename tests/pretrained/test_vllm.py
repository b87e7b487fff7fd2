"""vLLM draws our greedy tokens from exported models, and is an engine of `sample`.

It needs an environment of its own (docs/families.md): VLLM_PYTHON=/its/bin/python.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import torch

from configs import export as export_config
from configs import sample as sample_config
from tests import families
from tests.sample import test_decode
from vpo_jax import records, stages
from vpo_jax.decoder import directory
from vpo_jax.sample import candidates, lm
from vpo_jax.serve import export

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="VLLM_PYTHON is not set"),
]
COUNT = 32
GREEDY = dataclasses.replace(test_decode.GREEDY, max_new_tokens=COUNT)


def qwen2(folder, tiny_model):
  """A random Qwen2.5 of 2 million parameters with heads of 64, which vLLM asks for."""
  folder.mkdir()
  families.make("qwen2", folder, hidden_size=256, intermediate_size=384)
  for name in directory.COMPANIONS:
    if (tiny_model / name).exists():
      shutil.copy(tiny_model / name, folder / name)
  return folder


@pytest.mark.parametrize("name", ["qwen2", "gemma"])
def test_vllm_draws_the_same_tokens(name, tmp_path, tiny_model, request):
  torch.manual_seed(0)
  if name == "qwen2":
    folder = qwen2(tmp_path / "base", tiny_model)
  else:
    folder = request.getfixturevalue("gemma")
  config = export_config.get_config()
  config.update(model=str(folder), dtype="float32")
  stages.run(export.STAGE, config, tmp_path)
  policy = lm.load(str(tmp_path / "vpo"))
  prompts = [policy.prompt(query) for query in test_decode.QUERIES]
  ours = test_decode.tokens_of(policy, prompts, GREEDY, slots=8)
  program = pathlib.Path(__file__).with_name("vllm_greedy.py")
  ran = subprocess.run(
    [os.environ["VLLM_PYTHON"], program, tmp_path / "vpo", str(COUNT)],
    input=json.dumps([list(prompt.tokens) for prompt in prompts]),
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 0, ran.stderr[-2000:]
  assert [[row] for row in json.loads(ran.stdout)] == ours


@contextlib.contextmanager
def vllm_server(model, log):
  """Serves a model as "policy"; yields its address."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  # Not `vllm serve`, which asks for the version of a package named vllm.
  command = [os.environ["VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server"]
  command += [f"--model={model}", "--served-model-name=policy", f"--port={port}"]
  command += ["--dtype=float32", "--max-model-len=1024", "--max-num-seqs=4"]
  changes = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
  with (
    log.open("w") as file,
    subprocess.Popen(
      command, stdout=file, stderr=file, env=os.environ | changes
    ) as server,
  ):
    try:
      url = f"http://127.0.0.1:{port}"
      while not answers(f"{url}/health"):
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(1)
      yield url
    finally:
      server.terminate()


def answers(url):
  try:
    return urllib.request.urlopen(url).status == 200
  except (urllib.error.URLError, ConnectionError):
    return False


def test_vllm_is_an_engine_of_the_stage_sample(tmp_path, tiny_model):
  """Greedy texts are ours; sampled ones are reproduced by the recorded seeds."""
  torch.manual_seed(0)
  folder = qwen2(tmp_path / "model", tiny_model)
  texts = test_decode.QUERIES
  rows = [records.Query(records.row_id(text), text) for text in texts]
  records.write(tmp_path / "queries.jsonl", rows)

  def sample(name, **changes):
    config = sample_config.get_config()
    config.update(model=str(folder), queries=str(tmp_path / "queries.jsonl"))
    config.update(max_new_tokens=COUNT, **changes)
    config.mesh.update(data=1, devices=1)
    config.openai.update(base_url=f"{url}/v1", model="policy")
    stages.run(candidates.STAGE, config, tmp_path / name)
    path = tmp_path / name / "sample" / "candidates.jsonl"
    return list(records.read(path, records.Candidates))

  with vllm_server(folder, tmp_path / "vllm.log") as url:
    greedy = {"num_candidates": 1, "temperature": 0.0, "top_p": 1.0}
    theirs = sample("theirs", engine="openai", **greedy)
    ours = sample("ours", **greedy)
    # vLLM omits an incomplete character at the end.
    assert [row.candidates[0].prompt for row in theirs] == [
      row.candidates[0].prompt.rstrip("\N{REPLACEMENT CHARACTER}") for row in ours
    ]
    drawn = sample("drawn", engine="openai", num_candidates=4)
    again = sample("again", engine="openai", num_candidates=4)
  assert [len({c.prompt for c in row.candidates}) for row in drawn] == [4] * len(drawn)
  assert drawn == again
