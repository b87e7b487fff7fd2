"""A saved model is a directory that transformers can load."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vpo_jax import errors, files
from vpo_jax.decoder import attention, directory, model, table, weights
from vpo_jax.decoder import config as decoder_config


def tiny(folder):
  """Writes a base directory; returns its config and random weights."""
  transformers.LlamaConfig(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
  ).save_pretrained(folder)
  (folder / "chat_template.jinja").write_text("{{ messages }}")
  config = decoder_config.read(folder)
  return config, table.init(jax.random.key(0), config)


def test_transformers_loads_a_saved_model_with_equal_logits(tmp_path):
  base, folder = tmp_path / "base", tmp_path / "new"
  config, params = tiny(base)
  directory.save_model(folder, params, config, base, "float32")

  theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
  tokens = np.arange(40, dtype=np.int32)[None]
  x, _ = model.hidden(
    params, jnp.asarray(tokens), jnp.asarray(tokens), attention.causal(config), config
  )
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens)).logits.numpy()
  assert theirs.dtype == torch.float32
  np.testing.assert_allclose(model.logits(params, x, config), expected, atol=1e-5)
  assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"


def test_a_bfloat16_model_is_saved_in_bfloat16(tmp_path):
  base, folder = tmp_path / "base", tmp_path / "new"
  config, params = tiny(base)
  directory.save_model(folder, params, config, base, "bfloat16")
  theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
  assert theirs.dtype == torch.bfloat16
  again = weights.load(folder, config, dtype="bfloat16")
  for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
    assert bool(jnp.all(old.astype(jnp.bfloat16) == new))


def test_config_is_written_last(tmp_path, monkeypatch):
  base, folder = tmp_path / "base", tmp_path / "new"
  config, params = tiny(base)
  directory.save_model(folder, params, config, base)
  assert directory.is_complete(folder)

  def full_disk(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(files, "publish", full_disk)
  with pytest.raises(OSError, match="No space"):
    directory.save_model(folder, params, config, base)
  assert not directory.is_complete(folder)


def test_a_model_is_not_written_over_its_base(tmp_path):
  config, params = tiny(tmp_path)
  with pytest.raises(errors.UserError, match="over its own base"):
    directory.save_model(tmp_path, params, config, tmp_path)
