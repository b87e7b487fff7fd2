"""The model that is sampled from, with all that its prompts need."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from vpo_jax import errors, files, templates
from vpo_jax.data import chat
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import (
  decode_weights,
  directory,
  model,
  sharding,
  source,
  table,
  weights,
)
from vpo_jax.sample import cache, prefill

PRECISIONS = ("float32", "bfloat16", "int8")

# Queries that have nothing in common: what their prompts share is the stem. A query's
# first sign may join the instruction's last one in a token, hence all the kinds.
_PROBES = (
  "A",
  "zebra 7",
  "7",
  '"a"',
  "(a",
  "-a",
  "...",
  "/a",
  "'s",
  " a",
  "\n",
  "é",
  "一",
)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt as the model is given it.

  Attributes:
    rendered: the exact chat text.
    tokens: its tokens.
  """

  rendered: str
  tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
  """A loaded model, ready to sample from.

  Attributes:
    folder: its Hugging Face directory.
    params: in `precision`, layers as a tuple, matrices and head as
      `decode_weights.Transposed` or `Quantized`; the embedding in
      `cache.storage_dtype(dtype)`.
    instruction: the template that holds `{query}`.
    stem_tokens: the tokens with which every optimizer prompt begins.
    stem: their keys and values, a layer each; made once.
    stop: the tokens that end an answer.
  """

  folder: epath.Path
  config: decoder_config.DecoderConfig
  tokenizer: chat.Tokenizer
  params: table.Params
  precision: str
  instruction: str
  stem_tokens: tuple[int, ...]
  stem: Any
  stop: tuple[int, ...]
  mesh: Mesh

  @property
  def dtype(self) -> str:
    """Operands of the products that are not in 8 bits."""
    return _dtype(self.precision)

  def fingerprint(self) -> str:
    """Of the directory's files; reads them all."""
    return files.fingerprint(self.folder)

  def prompt(self, query: str) -> Prompt:
    """The optimizer's prompt for a query."""
    return self.chat(
      [{"role": "user", "content": templates.fill(self.instruction, query=query)}]
    )

  def chat(self, messages: list[dict[str, str]]) -> Prompt:
    """The prompt of any conversation that awaits the assistant's answer."""
    return self.text(chat.render(self.tokenizer, messages))

  def text(self, rendered: str) -> Prompt:
    """A prompt of text that is given to the model as it stands."""
    ids = self.tokenizer(rendered, add_special_tokens=False).input_ids
    return Prompt(rendered, tuple(ids))

  def decode(self, tokens: list[int]) -> str:
    """A response's text, without special tokens and outer spaces."""
    return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def load(
  model: str,
  *,
  precision: str = "float32",
  instruction: str = "",
  mesh: Mesh | None = None,
) -> LanguageModel:
  """Loads a model directory, a hub id, or the embedded default.

  Args:
    precision: "float32", "bfloat16" where the device multiplies it fast, or "int8"
      for one prompt at a time on a CPU.
    instruction: a template file; "" takes the model's own, or the embedded one.
    mesh: where it runs; None is one device.

  Raises:
    UserError: no such model, or one that cannot be used.
  """
  if precision not in PRECISIONS:
    raise errors.UserError(f"precision {precision!r}: wants {', '.join(PRECISIONS)}")
  folder = source.resolve(model)
  config = decoder_config.read(folder)
  mesh = mesh or sharding.one_device_mesh()
  tokenizer = chat.load_tokenizer(folder)
  template = _instruction(folder, instruction)
  dtype = _dtype(precision)
  params = weights.load(folder, config, sharding.params(config, mesh), dtype)
  policy = LanguageModel(
    folder=folder,
    config=config,
    tokenizer=tokenizer,
    params=_unstack(params, precision),
    precision=precision,
    instruction=template,
    stem_tokens=(),
    stem=None,
    stop=_stop(folder, tokenizer),
    mesh=mesh,
  )
  stem_tokens = _stem(policy)
  stem = prefill.stem(policy.params, stem_tokens, config, mesh, dtype)
  return dataclasses.replace(policy, stem_tokens=stem_tokens, stem=stem)


def _dtype(precision: str) -> str:
  return "float32" if precision == "int8" else precision


def _unstack(params: table.Params, precision: str) -> table.Params:
  """Layers as a tuple of matrices that a decode reads without a copy.

  The head stands beside the embedding, of which rows are taken as a cache is held.
  Takes the stacked leaves out of `params`, so that only one is there twice at a time.
  """
  int8 = precision == "int8"
  stored = decode_weights.quantize if int8 else decode_weights.Transposed
  stacked = params.pop("layers")
  layers: list[table.Params] = []
  for name in list(stacked):
    leaf = stacked.pop(name)
    layers = layers or [{} for _ in range(leaf.shape[0])]
    if leaf.ndim == 3:
      weights = [stored(w) for w in jnp.unstack(jnp.swapaxes(leaf, 1, 2))]
    else:
      weights = jnp.unstack(leaf)
    for layer, weight in zip(layers, weights, strict=True):
      layer[name] = weight
  tables = {"head": stored(model.head(params))}
  tables["embed"] = params["embed"].astype(cache.storage_dtype(_dtype(precision)))
  return params | tables | {"layers": tuple(layers)}


def _instruction(folder: epath.Path, path: str) -> str:
  own = folder / directory.INSTRUCTION
  return templates.load("instruction", path or (own if own.exists() else ""))


def _stem(policy: LanguageModel) -> tuple[int, ...]:
  """What prompts share, by the template alone: the same stem for any set of queries."""
  prompts = [policy.prompt(probe).tokens for probe in _PROBES]
  shared = [len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False)]
  return prompts[0][: shared.index(False) if False in shared else len(shared)]


def _stop(folder: epath.Path, tokenizer: chat.Tokenizer) -> tuple[int, ...]:
  """The tokenizer's end token, and those of the generation config (Llama 3 has two)."""
  ids = {int(tokenizer.eos_token_id)}
  path = folder / "generation_config.json"
  if path.exists():
    ids |= set(np.atleast_1d(files.read_json(path).get("eos_token_id") or []).tolist())
  return tuple(sorted(ids))
