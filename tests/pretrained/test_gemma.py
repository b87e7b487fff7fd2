"""A pretrained Gemma 3 equals transformers', and goes through the commands."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from tests.sample import test_decode
from tests.sample.test_families import QUERIES
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import attention, model, weights
from vpo_jax.decoder import config as decoder_config
from vpo_jax.sample import lm

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def theirs(gemma):
  return load(gemma)


def load(folder):
  return transformers.AutoModelForCausalLM.from_pretrained(
    folder, attn_implementation="eager", dtype=torch.float32
  ).eval()


def our_logits(folder, tokens_BT):
  config = decoder_config.read(folder)
  params, tokens_BT = weights.load(folder, config), jnp.asarray(tokens_BT)
  positions = jnp.arange(tokens_BT.shape[1])[None]
  x, _ = model.hidden(params, tokens_BT, positions, attention.causal(config), config)
  return np.asarray(model.logits(params, x, config))


def their_logits(theirs, tokens_BT):
  with torch.no_grad():
    return theirs(torch.tensor(tokens_BT)).logits.numpy()


def test_logits_equal_transformers(gemma, theirs):
  """At every position of a text that is longer than the window of 512 tokens."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(gemma)
  text = (ROOT / "docs" / "families.md").read_text()
  tokens_BT = np.asarray([tokenizer(text).input_ids[:700]], np.int32)
  assert tokens_BT.shape == (1, 700)
  ours, expected = our_logits(gemma, tokens_BT), their_logits(theirs, tokens_BT)
  print(f"largest gap {np.abs(ours - expected).max():.1e} of {np.ptp(expected):.0f}")
  np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def test_greedy_equals_transformers(gemma, theirs):
  """Each of our tokens is transformers' most probable one, given those before it."""
  policy = lm.load(str(gemma))
  prompts = [policy.prompt(query) for query in QUERIES]
  wanted = dataclasses.replace(test_decode.GREEDY, max_new_tokens=64)
  rows = test_decode.tokens_of(policy, prompts, wanted, slots=10)
  for prompt, [row] in zip(prompts, rows, strict=True):
    logits = their_logits(theirs, [[*prompt.tokens, *row[:-1]]])[0]
    np.testing.assert_array_equal(row, logits[len(prompt.tokens) - 1 :].argmax(-1))


def launch(script, config, *flags):
  command = [sys.executable, f"launch/{script}.py", f"--config=configs/{config}.py"]
  command += flags
  one_device = {**os.environ, "XLA_FLAGS": ""}
  ran = subprocess.run(
    command, cwd=ROOT, env=one_device, capture_output=True, text=True, check=False
  )
  assert ran.returncode == 0, ran.stderr[-2000:]


def test_trained_by_commands(gemma, tmp_path):
  """SFT, DPO with LoRA, sampling and export; transformers reads the result."""
  workdir = tmp_path / "run"
  rows, pairs = tmp_path / "rows.json", tmp_path / "pairs.json"
  content = "Rewrite this query as a prompt. Query: {} Prompt:"
  answer, other = "A long, careful caption about {}.", "{}, {}, {}"
  ask = [(content.format(q), answer.format(q), other.format(q, q, q)) for q in QUERIES]
  rows.write_text(json.dumps([data_examples.sft_row(*row[:2]) for row in ask]))
  pairs.write_text(json.dumps([data_examples.preference_row(*row) for row in ask]))
  where = f"--workdir={workdir}"
  small = ("--config.batch_size=4", "--config.epochs=2", "--config.micro_tokens=1024")
  common = (
    where,
    "--config.optimizer.peak_lr=1e-4",
    "--config.precision=float32",
    *small,
  )
  launch(
    "train_sft", "sft", f"--config.model={gemma}", f"--config.train={rows}", *common
  )
  losses = metrics(workdir, "sft", "loss")
  assert losses[-1] < 0.5 * losses[0]
  launch("train_dpo", "dpo", f"--config.train={pairs}", "--config.lora.rank=8", *common)
  margins = metrics(workdir, "dpo", "rewards/margins")
  assert margins[0] == pytest.approx(0, abs=1e-4)
  assert margins[-1] > 0.1
  launch("export", "export", where, "--config.dtype=float32")
  exported = workdir / "vpo"
  tokens_BT = np.arange(600, dtype=np.int32)[None]
  ours = our_logits(workdir / "train_dpo" / "model", tokens_BT)
  expected = their_logits(load(exported), tokens_BT)
  np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())
  queries = tmp_path / "queries.txt"
  queries.write_text("\n".join(QUERIES[:2]))
  launch(
    *("sample", "sample", where, f"--config.queries={queries}"),
    *(f"--config.model={exported}", "--config.max_new_tokens=32"),
    "--config.num_candidates=2",
  )
  drawn = (workdir / "sample" / "candidates.jsonl").read_text().splitlines()
  assert [len(json.loads(row)["candidates"]) for row in drawn] == [2, 2]
  shutil.rmtree(workdir)  # some gigabytes


def metrics(workdir, stage, name):
  path = workdir / f"train_{stage}" / "metrics.jsonl"
  rows = map(json.loads, path.read_text().splitlines())
  return [row[name] for row in rows if name in row]
