"""Features of prompts: the policy's final hidden states while it reads them.

The features of a prompt are the mean over its tokens, and the state of its last token,
of the hidden states after the last norm, given the instruction and the query. The keys
and values of the instruction are those that sampling keeps (`LanguageModel.stem`).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jinja2
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from vpo_jax import templates
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import model, sharding, table, window
from vpo_jax.runtime import console
from vpo_jax.sample import attention, cache, lm, prefill

TOKENS = 4096  # of a batch, instruction excluded; sets peak memory
_LENGTH_MULTIPLE = 64  # of row lengths, so that a few shapes are compiled


@dataclasses.dataclass(frozen=True)
class _Row:
  """What one row of a batch reads: the rest of the chat's tokens after the stem.

  Attributes:
    query, prompt: indices of the query, and of the prompt among the query's.
    tokens: up to the prompt's last token; the end token is not part of it.
    first: index in `tokens` of the prompt's first token.
    on_stem: whether the tokens follow the stem or are the whole chat.
  """

  query: int
  prompt: int
  tokens: np.ndarray
  first: int
  on_stem: bool


def size(policy: lm.LanguageModel) -> int:
  """Number of features of a prompt, F: twice the width of the model."""
  return 2 * policy.config.d_model


def compute(
  policy: lm.LanguageModel,
  queries: Sequence[str],
  prompts: Sequence[Sequence[str]],
  advance: console.Advance = lambda count, note: None,
) -> list[Float[np.ndarray, "K F"]]:
  """The features of each query's prompts, in float32.

  They are NaN for a prompt that has no tokens, that the chat template refuses (such as
  one with a special token), or that does not fit into the model's context.

  Args:
    policy: the model that reads the prompts.
    queries: the queries.
    prompts: the prompts of each query.
    advance: called with the number of prompts that are finished.
  """
  found = [np.full((len(one), size(policy)), np.nan, np.float32) for one in prompts]
  rows = [
    row
    for number, query in enumerate(queries)
    for row in _rows(policy, number, query, prompts[number])
  ]
  advance(sum(map(len, prompts)) - len(rows), "")
  rows.sort(key=lambda row: -len(row.tokens))
  while rows:
    length = _round_up(len(rows[0].tokens), _LENGTH_MULTIPLE)
    count = max(1, TOKENS // length)
    batch, rows = rows[:count], rows[count:]
    features_BF = _batch(policy, batch, length)
    for row, features_F in zip(batch, features_BF, strict=True):
      found[row.query][row.prompt] = features_F
    advance(len(batch), "")
  return found


def _rows(
  policy: lm.LanguageModel, number: int, query: str, prompts: Sequence[str]
) -> list[_Row]:
  """The rows of those of a query's prompts that the model can read."""
  stem = policy.stem_tokens
  rows = []
  for place, tokens in enumerate(_tokens(policy, query, prompts)):
    if tokens is None:
      continue
    before, prompt = tokens
    on_stem = tuple(before[: len(stem)]) == stem
    start = len(stem) if on_stem else 0
    own = np.asarray([*before[start:], *prompt], np.int32)
    rows.append(_Row(number, place, own, len(before) - start, on_stem))
  return rows


def _tokens(
  policy: lm.LanguageModel, query: str, prompts: Sequence[str]
) -> list[tuple[list[int], list[int]] | None]:
  """For each prompt the tokens before it and its own; None if it cannot be read."""
  content = templates.fill(policy.instruction, query=query)
  messages = [{"role": "user", "content": content}]
  try:
    before, answers = policy.format.example(messages, prompts)
  except (ValueError, jinja2.TemplateError):
    if len(prompts) == 1:
      return [None]
    return [one for prompt in prompts for one in _tokens(policy, query, [prompt])]
  room = policy.config.context - len(before)
  return [
    (before, answer[:-1]) if 1 < len(answer) <= room else None for answer in answers
  ]


def _batch(
  policy: lm.LanguageModel, rows: Sequence[_Row], length: int
) -> Float[np.ndarray, "B F"]:
  """The features of rows of at most `length` tokens."""
  parts = sharding.groups(policy.mesh)
  padded = parts * (1 << (-(-len(rows) // parts) - 1).bit_length())  # few shapes
  tokens_BT = np.zeros((padded, length), np.int32)
  first_B, size_B = np.zeros(padded, np.int32), np.ones(padded, np.int32)
  on_stem_B = np.zeros(padded, bool)
  for b, row in enumerate(rows):
    tokens_BT[b, : len(row.tokens)] = row.tokens
    first_B[b], size_B[b], on_stem_B[b] = row.first, len(row.tokens), row.on_stem
  batch = NamedSharding(policy.mesh, sharding.BATCH)
  arrays = jax.device_put((tokens_BT, first_B, size_B, on_stem_B), batch)
  features_BF = _features(
    policy.params, policy.stem, *arrays, policy.config, policy.dtype
  )
  return np.asarray(features_BF)[: len(rows)]


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _features(
  params: table.Params,
  stem: cache.Cache | None,
  tokens_BT: Int[Array, "B T"],
  first_B: Int[Array, " B"],
  size_B: Int[Array, " B"],
  on_stem_B: Bool[Array, " B"],
  config: decoder_config.DecoderConfig,
  dtype: str,
) -> Float[Array, "B F"]:
  """Mean and last of the hidden states from `first` up to `size` of each row."""
  B, T = tokens_BT.shape
  shared = prefill.length(stem)
  index_1T = jnp.arange(T)[None]
  position_BT = jnp.where(on_stem_B, shared, 0)[:, None] + index_1T
  mask_BTT = jnp.broadcast_to(jnp.tri(T, dtype=bool)[None], (B, T, T))
  masks = window.masks(config, mask_BTT, position_BT, position_BT, shared + T)
  stem_masks = window.masks(
    config, on_stem_B[:, None, None], position_BT, jnp.arange(shared)[None], shared + T
  )

  def attend(q, k, v, shared, kind) -> tuple[Any, cache.Layer | None]:
    own = cache.new_layer(k, v, dtype)
    out = attention.over_stem_and_slot(
      q, own, masks[kind], shared, stem_masks[kind], config.score_cap
    )
    return out, None

  x_BTD, _ = model.hidden(
    params, tokens_BT, position_BT, attend, config, cache=stem, dtype=dtype
  )
  own_BT = (index_1T >= first_B[:, None]) & (index_1T < size_B[:, None])
  total_BD = jnp.sum(jnp.where(own_BT[..., None], x_BTD, 0.0), axis=1)
  mean_BD = total_BD / jnp.sum(own_BT, axis=1, dtype=jnp.float32)[:, None]
  last_BD = jnp.take_along_axis(x_BTD, (size_B - 1)[:, None, None], axis=1)[:, 0]
  return jnp.concatenate([mean_BD, last_BD], axis=-1)


def _round_up(size: int, multiple: int) -> int:
  return -(-size // multiple) * multiple
