"""A very small VisionReward: a model directory with remote code (remote_code.py)."""

import importlib.util
import json
import pathlib
import shutil

import tokenizers
import transformers

REMOTE = pathlib.Path(__file__).with_name("remote_code.py")
ANSWERS = ["yes", "no", "Yes", "No", " yes", " no"]


def save(folder, words, split):
  """Writes a directory that transformers loads with `trust_remote_code`.

  Args:
    words: that occur in the questions; any other word is `<unk>`.
    split: the pre-tokenizer that separates words.
  """
  vocabulary = ["<pad>", "<unk>", "</s>", *ANSWERS, *words]
  model = tokenizers.models.WordLevel(
    {word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"
  )
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = split
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
  ).save_pretrained(folder)
  shutil.copy(REMOTE, folder / "tiny.py")
  found = importlib.util.spec_from_file_location("tiny", REMOTE)
  assert found is not None
  assert found.loader is not None
  remote = importlib.util.module_from_spec(found)
  found.loader.exec_module(remote)
  config = remote.TinyConfig(vocab_size=len(vocabulary), eos_token_id=2)
  remote.TinyForCausalLM(config).save_pretrained(folder)
  saved = json.loads((folder / "config.json").read_text())
  saved["auto_map"] = {
    "AutoConfig": "tiny.TinyConfig",
    "AutoModelForCausalLM": "tiny.TinyForCausalLM",
  }
  (folder / "config.json").write_text(json.dumps(saved))
