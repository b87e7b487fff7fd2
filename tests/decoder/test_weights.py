"""Weights are loaded from and saved to Hugging Face directories."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import transformers
from etils import epath

from tests.decoder import test_model
from vpo_jax import errors
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights


def edit(folder, change):
  """Rewrites the tensors of a directory."""
  path = folder / "model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def load(folder, **options):
  return weights.load(folder, decoder_config.read(folder), **options)


def equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_a_missing_tensor_is_reported(tmp_path):
  test_model.make_llama(tmp_path)
  edit(tmp_path, lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
  with pytest.raises(
    errors.UserError, match=r"model\.layers\.1\.mlp\.up_proj.*missing"
  ):
    load(tmp_path)


def test_a_wrong_shape_is_reported(tmp_path):
  test_model.make_llama(tmp_path)
  edit(tmp_path, lambda t: t.update({"model.norm.weight": np.ones(63, np.float32)}))
  with pytest.raises(errors.UserError, match=r"model\.norm\.weight has shape \(63,\)"):
    load(tmp_path)


def test_a_truncated_file_is_reported(tmp_path):
  test_model.make_llama(tmp_path)
  path = tmp_path / "model.safetensors"
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(errors.UserError, match=r"model\.safetensors: cannot be read"):
    load(tmp_path)


def test_an_unsupported_architecture_is_refused(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
  with pytest.raises(errors.UserError, match="'gpt2' is not one of llama, mis"):
    decoder_config.read(tmp_path)


@pytest.mark.parametrize("method", ["bitsandbytes", "fp8", "gptq"])
def test_a_quantized_model_is_refused_by_its_config(tmp_path, method):
  test_model.make_llama(tmp_path)
  config = json.loads((tmp_path / "config.json").read_text())
  config["quantization_config"] = {"quant_method": method}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(
    errors.UserError, match=r"the model is quantized \(quantization_c"
  ):
    decoder_config.read(tmp_path)


@pytest.mark.parametrize(
  ("dtype", "name"), [(np.int8, "I8"), (np.float64, "F64"), (np.uint8, "U8")]
)
def test_a_tensor_of_another_type_is_refused_before_any_is_read(tmp_path, dtype, name):
  test_model.make_llama(tmp_path)
  key = "model.layers.1.mlp.up_proj.weight"
  edit(tmp_path, lambda t: t.update({key: t[key].astype(dtype)}))
  with pytest.raises(errors.UserError, match=rf"{key} has type {name}, not one of F32"):
    weights.check(epath.Path(tmp_path), decoder_config.read(tmp_path))
  with pytest.raises(errors.UserError, match=rf"{key} has type {name}"):
    load(tmp_path)


def test_shards_load_like_one_file(tmp_path):
  llama = test_model.make_llama(tmp_path / "one")
  llama.save_pretrained(tmp_path / "many", max_shard_size="100KB")
  assert (tmp_path / "many" / weights.INDEX).exists()
  assert equal(load(tmp_path / "one"), load(tmp_path / "many"))


@pytest.mark.parametrize("shard_bytes", [10**9, 10**5])
def test_saved_weights_are_what_transformers_loads(tmp_path, shard_bytes):
  llama = test_model.make_llama(tmp_path / "theirs", tie_word_embeddings=False)
  config = decoder_config.read(tmp_path / "theirs")
  params = load(tmp_path / "theirs")
  weights.save(tmp_path / "ours", params, config, shard_bytes=shard_bytes)
  llama.config.save_pretrained(tmp_path / "ours")
  ours = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours").state_dict()
  for name, tensor in llama.state_dict().items():
    np.testing.assert_array_equal(ours[name], tensor)


def test_bfloat16_directories_load(tmp_path):
  llama = test_model.make_llama(tmp_path / "f32")
  llama.bfloat16().save_pretrained(tmp_path / "bf16")
  assert load(tmp_path / "bf16")["norm"].dtype == np.float32


def test_the_fingerprint_changes_with_any_weight(tmp_path):
  test_model.make_llama(tmp_path)
  params = load(tmp_path)
  original = weights.fingerprint(params)
  assert original == weights.fingerprint(load(tmp_path))
  gate = params["layers"]["gate"]
  nudged = gate.at[1, 2, 3].set(np.nextafter(gate[1, 2, 3], np.float32(9)))
  swapped = gate.at[0, 0, 0].set(gate[0, 0, 1]).at[0, 0, 1].set(gate[0, 0, 0])
  for changed in (nudged, swapped):
    layers = params["layers"] | {"gate": changed}
    assert weights.fingerprint(params | {"layers": layers}) != original
