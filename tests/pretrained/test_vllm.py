"""vLLM draws our greedy tokens from exported models.

It needs an environment of its own (docs/families.md): VLLM_PYTHON=/its/bin/python.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import torch

from configs import export as export_config
from tests import families
from tests.sample import test_decode
from vpo_jax import stages
from vpo_jax.decoder import directory
from vpo_jax.sample import lm
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
