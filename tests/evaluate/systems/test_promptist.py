"""Promptist's settings and its process, with a small random GPT-2."""

import json
import subprocess
import sys

import pytest
import torch
import transformers

from tests.evaluate.systems.conftest import TEXTS
from vpo_jax import errors, records, stages
from vpo_jax.evaluate.systems import promptist


@pytest.fixture(scope="module")
def expected(gpt2):
  """What transformers writes for each text alone, as on the model's card."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
  model = transformers.AutoModelForCausalLM.from_pretrained(gpt2)
  found = {}
  for text in TEXTS:
    ids = tokenizer(f"{text.strip()} Rephrase:", return_tensors="pt").input_ids
    end = tokenizer.eos_token_id
    out = model.generate(
      ids,
      attention_mask=torch.ones_like(ids),
      do_sample=False,
      max_new_tokens=75,
      num_beams=8,
      num_return_sequences=8,
      eos_token_id=end,
      pad_token_id=end,
      length_penalty=-1.0,
    )
    new = out[0][ids.shape[1] :]
    found[text] = tokenizer.decode(new, skip_special_tokens=True).strip()
  return found


def program(gpt2, folder, texts, *options):
  asked = folder / "asked.jsonl"
  rows = [{"id": str(k), "text": text} for k, text in enumerate(texts)]
  asked.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  command = [sys.executable, promptist.PROGRAM, f"--model={gpt2}", f"--queries={asked}"]
  out = folder / "made.jsonl"
  subprocess.run([*command, f"--out={out}", *options], check=True)
  return [json.loads(line) for line in out.read_text().split("\n") if line]


def test_a_killed_run_continues_in_batches(gpt2, expected, tmp_path):
  """A batch is what transformers writes one by one, and too long a query is named."""
  first = json.dumps({"id": "0", "prompt": "made earlier"})
  (tmp_path / "made.jsonl").write_text(f'{first}\n{{"id": "1", "pro')
  texts = [*TEXTS, "a cat " * 60]
  made = program(gpt2, tmp_path, texts, "--batch_size=4")
  assert [row["id"] for row in made] == [str(k) for k in range(len(texts))]
  assert made[0]["prompt"] == "made earlier"
  assert "more than 85" in made[-1]["problem"]
  assert [row["prompt"] for row in made[1:-1]] == [expected[one] for one in TEXTS[1:]]
  assert len(set(expected.values())) > 3


def test_a_row_writes_candidates(gpt2, expected, place):
  rows = [records.Query(str(k), text) for k, text in enumerate(TEXTS)]
  records.write(place.queries, [*rows, records.Query("long", "a dog " * 99)])
  place.config.promptist.device = "cpu"
  found = place.write(f"promptist=promptist {gpt2}")
  assert found == {str(k): expected[text] for k, text in enumerate(TEXTS)}
  folder = place.folder / "systems" / "promptist" / "prompts"
  counts = stages.finished_counts(folder)
  assert counts == {"queries": 7, "candidates": 6, "set_aside": 1}
  place.config.promptist.batch_size = 3  # execution only
  assert place.write(f"promptist=promptist {gpt2}") == found


def test_what_is_missing_is_one_line(place, tmp_path):
  config = place.config.promptist
  with pytest.raises(errors.UserError, match=r"has no config\.json"):
    place.write(f"p=promptist {tmp_path}")
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(errors.UserError, match=r"exit code 1: .*model_type.*log\.txt"):
    place.write(f"p=promptist {tmp_path}")
  config.python = "/no/python"
  with pytest.raises(errors.UserError, match="/no/python: No such file"):
    place.write(f"p=promptist {tmp_path}")
  empty = tmp_path / "python"
  empty.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
  empty.chmod(0o755)
  config.python = str(empty)
  with pytest.raises(errors.UserError, match="has no torch and transformers"):
    place.write(f"p=promptist {tmp_path}")
