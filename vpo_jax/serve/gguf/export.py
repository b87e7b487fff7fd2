"""Writes a model as a GGUF file, with a Modelfile for Ollama and the instruction."""

import contextlib
import math
import pathlib
from typing import Any

import gguf
import ml_collections
import numpy as np
from etils import epath

from vpo_jax import buckets, errors, files, json_input, templates
from vpo_jax.data import chat
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import directory, stored, table, weights
from vpo_jax.runtime import processes
from vpo_jax.serve import card
from vpo_jax.serve.gguf import architecture, modelfile, vocabulary

MODEL = "model.gguf"
MODELFILE = "Modelfile"
_TYPES = {
  "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
  "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
  "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
DTYPES = tuple(_TYPES)


def export(
  folder: epath.Path,
  model: epath.Path,
  config: ml_collections.ConfigDict,
  figures: card.Figures,
) -> dict[str, Any]:
  """Writes `model` with the files that using it requires; returns its size.

  Needs no accelerator, and memory for only one tensor.

  Args:
    config: see configs/export.py; its dtype is one of `DTYPES`.
    figures: the run's figures, for the model card.

  Raises:
    UserError: llama.cpp does not support the model or its tokenizer, or a weight is
      missing or too large for float16.
  """
  where = str(model)
  decoder = decoder_config.read(model)
  hf = json_input.fields(model / directory.CONFIG)
  target = architecture.ARCHITECTURES[hf["model_type"]]
  architecture.check(target, decoder, where)
  form = chat.load(model, decoder.vocab)
  # Other programs fill in the query only.
  instruction = templates.with_notes(templates.of_model(model, config.instruction), "")

  def render(query: str) -> str:
    content = templates.fill(instruction, query=query)
    return form.render([{"role": "user", "content": content}])

  before, after = modelfile.parts(render, where)
  words = vocabulary.read(form, before, where)
  if words.add_bos:
    before = before.removeprefix(form.tokenizer.bos_token)
  template = chat.template(form.tokenizer)
  tensors = weights.tensors(model, decoder)

  writer = gguf.GGUFWriter(None, target.name)
  writer.add_type(gguf.GGUFType.MODEL)
  writer.add_name("vpo")
  writer.add_file_type(_TYPES[config.dtype][1])
  writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
  _add_sampling(writer, config)
  architecture.add(writer, target, decoder)
  vocabulary.add(writer, words, form, template)
  around = before, after
  content = {
    directory.INSTRUCTION: instruction,
    "README.md": card.gguf(figures, instruction, config),
    MODELFILE: modelfile.text(MODEL, form, template, around, decoder.context, config),
  }
  if processes.first():
    _write(folder / MODEL, writer, target, decoder, tensors, config.dtype)
    for name, text in content.items():
      files.write_text(folder / name, text)
  shapes = weights.hf_shapes(table.table(decoder))
  parameters = sum(math.prod(shape) for _, shape in shapes)
  return {"parameters": parameters, "dtype": config.dtype}


def _add_sampling(writer: gguf.GGUFWriter, config: ml_collections.ConfigDict) -> None:
  """Adds the settings that llama.cpp samples with unless others are given."""
  keys = gguf.Keys.General
  writer.add_float32(keys.SAMPLING_TEMP, config.temperature)
  writer.add_float32(keys.SAMPLING_TOP_P, config.top_p)
  writer.add_int32(keys.SAMPLING_TOP_K, 0)
  writer.add_float32(keys.SAMPLING_MIN_P, 0.0)


def _write(
  path: epath.Path,
  writer: gguf.GGUFWriter,
  target: architecture.Architecture,
  decoder: decoder_config.DecoderConfig,
  tensors: dict[str, stored.Tensor],
  dtype: str,
) -> None:
  """Writes the file atomically, one tensor after the other."""
  rename = architecture.tensor_names(target, decoder.layers)
  names = [name for name, _ in weights.hf_shapes(table.table(decoder))]
  factors = architecture.rope_factors(decoder)
  for name in names:
    shape = tensors[name].shape
    kind = _type(shape, dtype)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    writer.add_tensor_info(
      rename(name),
      shape,
      np.dtype("float32"),
      math.prod(shape) // block * size,
      raw_dtype=kind,
    )
  if factors is not None:
    writer.add_tensor_info(_FACTORS, factors.shape, factors.dtype, factors.nbytes)
  local = buckets.scratch(path)
  with files.publish(local, "wb") as file, contextlib.closing(writer):
    writer.write_header_to_file(pathlib.Path(file.name))
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in names:
      values = _values(tensors[name], dtype, decoder.norm_offset)
      heads = {"q_proj": decoder.heads, "k_proj": decoder.kv_heads}
      heads = heads.get(name.split(".")[-2], 0)
      if heads and target.interleaved:
        values = architecture.interleave(values, heads)
      writer.write_tensor_data(values)
    if factors is not None:
      writer.write_tensor_data(factors)
  buckets.store(path)


_FACTORS = "rope_freqs.weight"


def _type(shape: tuple[int, ...], dtype: str) -> gguf.GGMLQuantizationType:
  """The type of a tensor in the file: norms and biases are float32."""
  if len(shape) == 1:
    return gguf.GGMLQuantizationType.F32
  kind, _ = _TYPES[dtype]
  block, _ = gguf.GGML_QUANT_SIZES[kind]
  return gguf.GGMLQuantizationType.F16 if shape[-1] % block else kind


def _values(tensor: stored.Tensor, dtype: str, norm_offset: float) -> np.ndarray:
  """A tensor as it is in the file; for q8_0 [rows, bytes of a row]."""
  kind = _type(tensor.shape, dtype)
  parts = []
  for _, block in tensor.blocks(0, tensor.shape[0]):
    values = block.astype(np.float32)
    if "norm" in tensor.name:
      values += np.float32(norm_offset)
    with np.errstate(over="ignore"):
      parts.append(gguf.quants.quantize(values, kind))
    if kind is gguf.GGMLQuantizationType.F16 and not np.isfinite(parts[-1]).all():
      raise errors.UserError(
        f"{tensor.path}: tensor {tensor.name} has values beyond float16; set"
        " config.dtype=float32"
      )
  return np.concatenate(parts)
