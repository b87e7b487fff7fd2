"""transformers, peft and the optimizer load the exported directory."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers

from configs import export as export_config
from vpo_jax import errors, files, stages
from vpo_jax.decoder import attention, directory, model, weights
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import lora as loras
from vpo_jax.sample import lm
from vpo_jax.serve import card, export

INSTRUCTION = "Write a prompt.\n\nUser Query:{query}\n\nVideo Prompt:"


@pytest.fixture
def exported(tiny_model, tmp_path):
  template = tmp_path / "mine.txt"
  template.write_text(INSTRUCTION)
  config = export_config.get_config()
  config.update({"model": str(tiny_model), "instruction": str(template)})
  manifest = {"config": {"model": "some/base"}, "counts": {"loss_after": 1.25}}
  files.write_json(tmp_path / "train_sft" / "manifest.json", manifest)
  counts = stages.run(export.STAGE, config, tmp_path)
  assert stages.run(export.STAGE, config, tmp_path) == counts
  return tmp_path / "vpo"


def test_transformers_computes_the_same_logits(tiny_model, exported):
  theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
  tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
  tokens = jnp.asarray([tokenizer("rain on a tin roof").input_ids], jnp.int32)
  config = decoder_config.read(tiny_model)
  positions = jnp.arange(tokens.shape[1])[None]
  x, _ = model.hidden(
    weights.load(tiny_model, config),
    tokens,
    positions,
    attention.causal(config),
    config,
  )
  ours = np.asarray(model.logits(weights.load(tiny_model, config), x, config))
  with torch.no_grad():
    expected = theirs(torch.tensor(np.asarray(tokens))).logits.numpy()
  spread = expected.max() - expected.min()
  assert np.abs(ours - expected).max() < 1e-4 * spread
  assert theirs.generation_config.temperature == 0.7
  assert theirs.generation_config.eos_token_id == 2


# peft uses a property that transformers deprecates.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_loads_an_exported_adapter(tiny_model, tmp_path):
  architecture = decoder_config.read(tiny_model)
  lora = loras.Lora(rank=4, alpha=8.0, targets=("q", "down"))
  adapters = {
    name: {
      k: 0.1 * np.random.default_rng(0).normal(size=w.shape) for k, w in pair.items()
    }
    for name, pair in lora.declare(architecture).items()
  }
  adapters = jax.tree.map(jnp.float32, adapters)
  trained = tmp_path / "train_dpo"
  elsewhere = tmp_path / "elsewhere"  # the base where it was trained
  elsewhere.mkdir()
  shutil.copy(tiny_model / "config.json", elsewhere)
  lora.save(trained / "adapter", adapters, architecture, elsewhere)
  params = lora.merge(weights.load(tiny_model, architecture), adapters)
  directory.save_model(trained / "model", params, architecture, tiny_model)
  config = export_config.get_config()
  config.update({"adapter": True, "base": str(tiny_model)})
  assert stages.run(export.STAGE, config, tmp_path)["base"] == str(tiny_model)
  folder = tmp_path / "vpo_adapter"
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  tokens = tokenizer("rain on a tin roof", return_tensors="pt").input_ids
  ours = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
  merged = transformers.AutoModelForCausalLM.from_pretrained(trained / "model")
  base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
  with torch.no_grad():
    expected = merged(tokens).logits
    spread = float(expected.max() - expected.min())
    torch.testing.assert_close(
      ours(tokens).logits, expected, atol=1e-5 * spread, rtol=0.0
    )
    assert not torch.allclose(ours(tokens).logits, base(tokens).logits, atol=1e-3)
  card = (folder / "README.md").read_text()
  assert f"vllm serve {tiny_model} --enable-lora" in card
  assert "peft.AutoPeftModelForCausalLM" in card


def test_a_missing_adapter_is_a_user_error(tiny_model, tmp_path):
  config = export_config.get_config()
  config.update({"adapter": True, "model": str(tiny_model)})
  with pytest.raises(errors.UserError, match=r"lora\.rank"):
    stages.run(export.STAGE, config, tmp_path)


def test_the_instruction_is_exported(exported):
  assert lm.load(str(exported)).instruction == INSTRUCTION


def test_a_models_own_instruction_is_exported_and_used(tiny_model, tmp_path):
  """By the command line and the server, which load it as here."""
  own = tmp_path / "own"
  shutil.copytree(tiny_model, own)
  (own / "instruction.txt").write_text(INSTRUCTION)
  config = export_config.get_config()
  config.model = str(own)
  stages.run(export.STAGE, config, tmp_path)
  rendered = lm.load(str(tmp_path / "vpo")).prompt("a cat").rendered
  assert INSTRUCTION.replace("{query}", "a cat") in rendered
  assert INSTRUCTION in (tmp_path / "vpo" / "README.md").read_text()


def test_the_card_has_the_figures_of_the_run(exported):
  text = (exported / "README.md").read_text()
  assert "| train_sft | loss_after | 1.25 |" in text
  assert "some/base" in text
  assert INSTRUCTION in text


def test_a_note_is_exported(tiny_model, exported, tmp_path):
  assert card.read_note(exported) == ""
  config = export_config.get_config()
  config.update({"model": str(tiny_model), "note": "Knows shapes only."})
  stages.run(export.STAGE, config, tmp_path / "noted")
  folder = tmp_path / "noted" / "vpo"
  assert card.read_note(folder) == "Knows shapes only."
  assert "**Knows shapes only.**" in (folder / "README.md").read_text()


def test_the_dtype_is_written(tiny_model, tmp_path):
  config = export_config.get_config()
  config.update({"model": str(tiny_model), "dtype": "bfloat16"})
  stages.run(export.STAGE, config, tmp_path)
  assert json.loads((tmp_path / "vpo" / "config.json").read_text())["dtype"] == (
    "bfloat16"
  )
  config.dtype = "int3"
  with pytest.raises(errors.UserError, match="int3"):
    stages.run(export.STAGE, config, tmp_path / "other")


def test_a_model_without_weights_is_a_user_error(tiny_model, tmp_path):
  broken, architecture = tmp_path / "broken", decoder_config.read(tiny_model)
  directory.save_model(
    broken, weights.load(tiny_model, architecture), architecture, tiny_model
  )
  (broken / "model.safetensors").unlink()
  config = export_config.get_config()
  config.model = str(broken)
  with pytest.raises(errors.UserError, match=r"no model\.safetensors"):
    stages.run(export.STAGE, config, tmp_path)
