"""What the tests of systems share."""

import pytest
import tokenizers
import torch
import transformers

from configs import evaluate as evaluate_config
from vpo_jax import records
from vpo_jax.evaluate import systems

QUERIES = ("a cat", "a dog", 'a man says "hi" to {query}')

# For Promptist.
TEXTS = (
  *QUERIES,
  "  the cat  sat , on the mat .",  # decoding cleans up such spaces
  "a dog Rephrase: a cat Rephrase:",
  "caf\u00e9 \u2028 猫",
)


class Place:
  """A workdir with queries, in which systems write their prompts."""

  def __init__(self, folder):
    self.folder = folder
    self.queries = folder / "queries.jsonl"
    self.config = evaluate_config.get_config()
    self.config.lock()  # as the launch scripts do
    rows = [records.Query(str(k), text) for k, text in enumerate(QUERIES)]
    records.write(self.queries, rows)

  def write(self, row):
    """The prompts of a row of `config.systems`, by query id."""
    _, system = systems.parse(("original=query", row))
    systems.check(system, self.config)
    systems.write(system, self.config, self.queries, None, self.folder, self.folder)
    path = systems.candidates(self.folder, system)
    found = list(records.read(path, records.Candidates))
    assert all(len(one.candidates) == 1 for one in found)
    return {one.query_id: one.candidates[0].prompt for one in found}


@pytest.fixture
def place(tmp_path):
  return Place(tmp_path)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
  """A GPT-2 with a byte-level BPE as GPT-2's; its end token ends some beams early."""
  folder = tmp_path_factory.mktemp("gpt2")
  bpe = tokenizers.ByteLevelBPETokenizer()
  bpe.train_from_iterator(
    [*TEXTS, "a cat sat on the mat, highly detailed, trending"] * 3,
    vocab_size=320,
    special_tokens=["<|endoftext|>"],
  )
  bpe.save(str(folder / "tokenizer.json"))
  tokenizer = transformers.GPT2TokenizerFast(
    tokenizer_file=str(folder / "tokenizer.json"),
    eos_token="<|endoftext|>",
    bos_token="<|endoftext|>",
    unk_token="<|endoftext|>",
  )
  tokenizer.save_pretrained(folder)
  torch.manual_seed(1)
  end = tokenizer.eos_token_id
  config = transformers.GPT2Config(
    vocab_size=len(tokenizer),
    n_positions=160,
    n_embd=32,
    n_layer=2,
    n_head=2,
    bos_token_id=end,
    eos_token_id=end,
    initializer_range=0.4,
  )
  transformers.GPT2LMHeadModel(config).save_pretrained(folder)
  return folder
