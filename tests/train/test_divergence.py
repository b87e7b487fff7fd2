"""The KL between two models is that of transformers' log-probabilities."""

import shutil

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from configs import divergence as divergence_config
from vpo_jax import errors, records, stages, templates
from vpo_jax.train import divergence

ROWS = {
  "a boat": ["a red boat drifts", "bright"],
  "a cat that sleeps": ["the cat sleeps", "a small cat", "a small cat"],
}


@pytest.fixture
def other_model(tiny_model, tmp_path):
  """The tiny model with weights that differ a little."""
  folder = tmp_path / "other"
  shutil.copytree(tiny_model, folder)
  rng = np.random.default_rng(0)
  tensors = safetensors.numpy.load_file(folder / "model.safetensors")
  tensors = {
    name: (t + 0.02 * rng.standard_normal(t.shape)).astype(t.dtype)
    for name, t in tensors.items()
  }
  safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
  return folder


def write(path, rows):
  records.write(
    path,
    [
      records.Candidates(
        query_id=query,
        query=query,
        category="general",
        model="",
        settings={},
        candidates=tuple(
          records.Candidate(k, prompt, "stop", 5) for k, prompt in enumerate(prompts)
        ),
      )
      for query, prompts in rows.items()
    ],
  )


def plain(folder, query, prompt):
  """log p(prompt | query) with its end token, unpacked, by transformers."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  content = templates.fill(templates.of_model(folder), query=query)
  chat = [{"role": "user", "content": content}]
  before = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_dict=True
  )["input_ids"]
  after = tokenizer(prompt, add_special_tokens=False)["input_ids"]
  tokens = torch.tensor([[*before, *after, tokenizer.eos_token_id]])
  model = transformers.AutoModelForCausalLM.from_pretrained(folder).float()
  with torch.no_grad():
    logp = model(tokens).logits[0, :-1].log_softmax(-1)
  own = logp.gather(1, tokens[0, 1:, None])[len(before) - 1 :]
  return own.sum().item()


def make_config(tiny_model, other_model, path):
  config = divergence_config.get_config()
  config.update(model=str(other_model), reference=str(tiny_model), candidates=str(path))
  config.update(batch_size=8, micro_tokens=1024)
  config.mesh.update(data=1, fsdp=1, tensor=1, devices=1)
  return config


def test_it_is_the_mean_difference_of_log_probabilities(
  tiny_model, other_model, tmp_path
):
  write(tmp_path / "rows.jsonl", ROWS)
  config = make_config(tiny_model, other_model, tmp_path / "rows.jsonl")
  counts = stages.run(divergence.STAGE, config, tmp_path)
  expected = [
    plain(other_model, query, prompt) - plain(tiny_model, query, prompt)
    for query, prompts in ROWS.items()
    for prompt in dict.fromkeys(prompts)
  ]
  assert counts["prompts"] == 4
  assert counts["kl"] == pytest.approx(np.mean(expected), abs=1e-3)
  assert abs(counts["kl"]) > 0.01
  error = np.std(expected, ddof=1) / 2
  assert counts["kl_standard_error"] == pytest.approx(error, abs=1e-3)


def test_prompts_that_are_too_long_are_counted(tiny_model, other_model, tmp_path):
  write(tmp_path / "rows.jsonl", ROWS | {"long": ["boat " * 700]})
  config = make_config(tiny_model, other_model, tmp_path / "rows.jsonl")
  config.max_tokens = 600
  assert stages.run(divergence.STAGE, config, tmp_path)["set_aside"] == 1
  write(tmp_path / "rows.jsonl", {"long": ["boat " * 700]})
  with pytest.raises(errors.UserError, match="no prompt can be tokenized"):
    stages.run(divergence.STAGE, config, tmp_path / "again")
