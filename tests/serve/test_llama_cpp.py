"""llama.cpp reads our prompts and draws our greedy answers from exported GGUF files.

It runs in node, by the npm package node-llama-cpp, which contains it for each system.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess

import gguf
import pytest
import torch
import transformers
from transformers.integrations.gguf import gguf_tokenizer_mapping

from tests import families
from tests.rehearsal import inputs
from tests.sample import test_decode
from tests.sample.test_families import QUERIES
from tests.serve import test_gguf
from vpo_jax import files, queries
from vpo_jax.decoder import source
from vpo_jax.sample import lm

pytestmark = pytest.mark.slow
NPM = "node-llama-cpp@3.22.1"
SHIPPED = [row.text for row in queries.load(queries.SHIPPED)[0]][:20]
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


def answers(packages, path, texts, count, *options):
  """What llama.cpp makes of each text: tokens, answer (tokens) and text."""
  rows = [json.dumps({"text": text, "count": count}) for text in texts]
  program = pathlib.Path(__file__).with_name("llama_greedy.mjs")
  ran = subprocess.run(
    ["node", program, packages, path, *options],
    input="\n".join(rows) + "\n",
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 0, ran.stderr[-2000:]
  ready, *lines = ran.stdout.splitlines()
  assert ready == "ready"
  return [json.loads(line) for line in lines]


def check(packages, path, model, asked=QUERIES):
  """llama.cpp's tokens of 20 prompts, and of the answers to them, are ours."""
  policy = lm.load(str(model))
  prompts = [policy.prompt(query) for query in asked]
  theirs = answers(packages, path, [one.rendered for one in prompts], 64)
  assert [row["tokens"] for row in theirs] == [list(one.tokens) for one in prompts]
  ours = test_decode.tokens_of(policy, prompts, GREEDY, slots=10)
  assert [[row["answer"]] for row in theirs] == ours


@pytest.mark.parametrize("asked", [QUERIES, SHIPPED], ids=["languages", "shipped"])
def test_greedy_answers_of_smollm2(asked, packages, smollm2, tmp_path):
  folder = test_gguf.exported(smollm2, tmp_path, dtype="float32")
  check(packages, folder / "model.gguf", smollm2, asked)


@pytest.mark.parametrize(
  ("asked", "options", "least", "limit"),
  [
    (QUERIES, (), 19, 0.02),
    (SHIPPED, (), 18, 0.02),
    # Keys and values are float16 too: two logits of a range of 36, each rounded.
    (SHIPPED, ("defaults",), 17, 2 * 36 * 2**-11),
  ],
  ids=["languages", "shipped", "defaults"],
)
def test_greedy_answers_of_smollm2_in_float16(
  asked, options, least, limit, packages, smollm2, tmp_path
):
  """Each token of llama.cpp is our most probable one, given those before it.

  llama.cpp rounds the operands of products with float16 matrices to float16, ours has
  the same matrices in float32. So a token may be another one at a near tie.
  """
  folder = test_gguf.exported(smollm2, tmp_path, dtype="float16")
  source.convert_gguf(folder / "model.gguf", tmp_path / "rounded")
  policy = lm.load(str(tmp_path / "rounded"))
  prompts = [policy.prompt(query) for query in asked]
  texts = [prompt.rendered for prompt in prompts]
  rows = answers(packages, folder / "model.gguf", texts, 64, *options)
  ours = test_decode.tokens_of(policy, prompts, GREEDY, slots=10)
  equal = [[row["answer"]] for row in rows]
  equal = sum(their == our for their, our in zip(equal, ours, strict=True))
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "rounded")
  gaps = []
  for row, prompt in zip(rows, prompts, strict=True):
    assert row["tokens"] == list(prompt.tokens)
    with torch.no_grad():
      logits = theirs(torch.tensor([row["tokens"] + row["answer"][:-1]])).logits[0]
    logits = logits[len(prompt.tokens) - 1 :]
    chosen = logits[torch.arange(64), row["answer"]]
    gaps.append(float((logits.max(-1).values - chosen).max()))
  print(f"{equal} of {len(rows)} equal; largest gap of a token: {max(gaps):.1e}")
  assert equal >= least
  assert max(gaps) < limit


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


TEXTS = (
  *QUERIES,
  "HTTPServer2024 camelCase ÉCOLE iPhone15Pro 1234567 12.5% 3/4 ٣٤٥ 一二三",
  "it's We'LL don't x'S 'tis ... !?\n\n\n  c\t d \r\n  e   ",
  "naïve café — “quoted” … 𝒻ancy <|im_end|> <|im_start|>user",
)


@pytest.mark.parametrize("name", ["smollm", "llama-bpe", "qwen2", "tekken"])
def test_texts_are_split_as_by_the_tokenizer(name, packages, smollm2, tmp_path):
  """SmolLM2's vocabulary, with the ways of others to split a text."""
  model = test_gguf.family("llama", smollm2, tmp_path / "model", vocab_size=49152)
  words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
  if name == "smollm":
    steps = [{"type": "Digits", "individual_digits": True}, words | {"use_regex": True}]
  else:
    pattern = {"Regex": gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS[name]}
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    steps = [split | {"pattern": pattern}, words | {"use_regex": False}]
  whole = {"ignore_merges": name in ("llama-bpe", "tekken")}
  pre_tokenizer = {"type": "Sequence", "pretokenizers": steps}
  test_gguf.respell(model, pre_tokenizer=pre_tokenizer, model=whole)
  folder = test_gguf.exported(model, tmp_path)
  written = test_gguf.metadata(gguf.GGUFReader(folder / "model.gguf"))
  assert written["tokenizer.ggml.pre"] == name
  tokens = [row["tokens"] for row in answers(packages, folder / "model.gguf", TEXTS, 0)]
  form = lm.load(str(model)).format
  assert tokens == [form.tokens(text) for text in TEXTS]
