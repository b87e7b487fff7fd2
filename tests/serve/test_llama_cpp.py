"""llama.cpp reads our prompts and draws our greedy answers from exported GGUF files.

It runs in node, by the npm package node-llama-cpp, which contains it for each system.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess

import pytest

from tests import families
from tests.rehearsal import inputs
from tests.sample import test_decode
from tests.sample.test_families import QUERIES
from tests.serve import test_gguf
from vpo_jax import files
from vpo_jax.decoder import source
from vpo_jax.sample import lm

pytestmark = pytest.mark.slow
NPM = "node-llama-cpp@3.22.1"
GREEDY = dataclasses.replace(test_decode.GREEDY, max_new_tokens=64)


@pytest.fixture(scope="module")
def packages():
  """A folder with node-llama-cpp, which is installed once."""
  for program in ("node", "npm"):
    if shutil.which(program) is None:
      pytest.skip(f"{program} is not installed")
  folder = files.cache_folder() / NPM
  if not (folder / "node_modules" / "node-llama-cpp").exists():
    command = ["npm", "install", "--ignore-scripts", f"--prefix={folder}", NPM]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
      pytest.skip(f"{' '.join(command)} failed: {ran.stderr.strip()[-200:]}")
  return folder


def answers(packages, path, texts, count):
  """What llama.cpp makes of each text: tokens, answer (tokens) and text."""
  rows = [json.dumps({"text": text, "count": count}) for text in texts]
  program = pathlib.Path(__file__).with_name("llama_greedy.mjs")
  ran = subprocess.run(
    ["node", program, packages, path],
    input="\n".join(rows) + "\n",
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 0, ran.stderr[-2000:]
  ready, *lines = ran.stdout.splitlines()
  assert ready == "ready"
  return [json.loads(line) for line in lines]


def check(packages, path, model):
  """llama.cpp's tokens of 20 prompts, and of the answers to them, are ours."""
  policy = lm.load(str(model))
  prompts = [policy.prompt(query) for query in QUERIES]
  theirs = answers(packages, path, [one.rendered for one in prompts], 64)
  assert [row["tokens"] for row in theirs] == [list(one.tokens) for one in prompts]
  ours = test_decode.tokens_of(policy, prompts, GREEDY, slots=10)
  assert [[row["answer"]] for row in theirs] == ours


def test_greedy_answers_of_smollm2(packages, smollm2, tmp_path):
  """From float16 weights; ours are the same, computed in float32."""
  folder = test_gguf.exported(smollm2, tmp_path, dtype="float16")
  source.convert_gguf(folder / "model.gguf", tmp_path / "rounded")
  check(packages, folder / "model.gguf", tmp_path / "rounded")


# Windows are out of llama.cpp's reach but for Gemma's.
@pytest.mark.parametrize(
  "name",
  sorted(set(families.FAMILIES) - {"mistral_window", "qwen2_window", "qwen2_yarn"}),
)
def test_greedy_answers_of_each_family(name, packages, tiny_model, tmp_path):
  changes = {"query_pre_attn_scalar": 32} if name.startswith("gemma") else {}
  model = test_gguf.family(name, tiny_model, tmp_path / "model", **changes)
  folder = test_gguf.exported(model, tmp_path)
  check(packages, folder / "model.gguf", model)


def test_greedy_answers_of_llama_3(packages, tmp_path):
  """A random model with the published tokenizer."""
  inputs.policy(tmp_path / "model")
  folder = test_gguf.exported(tmp_path / "model", tmp_path)
  check(packages, folder / "model.gguf", tmp_path / "model")
