"""The model's logits equal transformers', and its own derivatives are exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vpo_jax.decoder import attention, decode_weights, matmul, model, table, weights
from vpo_jax.decoder import config as decoder_config

LLAMA3_ROPE = {
  "rope_type": "llama3",
  "rope_theta": 10000.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 64,
}

SHAPES = {
  "tied": {"tie_word_embeddings": True},
  "untied": {"tie_word_embeddings": False},
  "llama3_rope": {"rope_parameters": LLAMA3_ROPE},
  "wide_head": {"head_dim": 32},  # heads * head_dim differs from d_model
  "no_groups": {"num_key_value_heads": 4},
}


def make_llama(folder, **changes):
  """Saves a tiny random Llama with transformers and returns the torch model."""
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    **{
      "vocab_size": 199,
      "hidden_size": 64,
      "intermediate_size": 96,
      "num_hidden_layers": 3,
      "num_attention_heads": 4,
      "num_key_value_heads": 2,
      "max_position_embeddings": 512,
      "initializer_range": 0.2,
      **changes,
    }
  )
  llama = transformers.LlamaForCausalLM(config).eval()
  llama.save_pretrained(folder)
  return llama


def our_logits(folder, tokens_BL):
  config = decoder_config.read(folder)
  params = weights.load(folder, config)
  tokens_BL = jnp.asarray(tokens_BL)
  positions = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]), tokens_BL.shape)
  x, _ = model.hidden(params, tokens_BL, positions, attention.causal(config), config)
  return np.asarray(model.logits(params, x, config))


def their_logits(llama, tokens_BL):
  with torch.no_grad():
    return llama(torch.tensor(tokens_BL)).logits.numpy()


def relative_gap(ours, theirs):
  """Largest difference relative to the range of the logits."""
  return np.abs(ours - theirs).max() / (theirs.max() - theirs.min())


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_logits_equal_transformers(tmp_path, changes):
  llama = make_llama(tmp_path, **changes)
  tokens = np.random.default_rng(0).integers(0, 199, (2, 300), dtype=np.int32)
  assert relative_gap(our_logits(tmp_path, tokens), their_logits(llama, tokens)) < 1e-4


def test_logits_equal_transformers_on_smollm2(smollm2):
  llama = transformers.LlamaForCausalLM.from_pretrained(smollm2)
  tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
  text = "A paper boat drifts down a rain-filled gutter, past a curious sparrow."
  tokens = np.asarray([tokenizer(text).input_ids], np.int32)
  assert relative_gap(our_logits(smollm2, tokens), their_logits(llama, tokens)) < 1e-4


def test_the_derivative_of_rms_norm_is_that_of_its_formula():
  """RMSNorm's backward pass is a `custom_vjp`."""
  keys = jax.random.split(jax.random.key(0), 3)
  x, dy = (3 * jax.random.normal(key, (2, 5, 48)) for key in keys[:2])
  weight = 1 + jax.random.normal(keys[2], (48,))

  def plain(x, weight):
    mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(mean + 1e-5) * weight[None, None]

  ours, our_backward = jax.vjp(lambda *a: model.rms_norm(*a, 1e-5), x, weight)
  theirs, their_backward = jax.vjp(plain, x, weight)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
  for a, b in zip(our_backward(dy), their_backward(dy), strict=True):
    assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("remat", ["none", "cheap", "full"])
def test_a_layer_equals_its_formula_up_to_rounding(dtype, error, remat):
  """Forward and backward against a layer written out in float32.

  bfloat16 has 8 bits of precision: each rounding is a relative error of at most 2^-9,
  and all of them together stay below 1 %.
  """
  config = decoder_config.parse(
    {
      "model_type": "llama",
      "vocab_size": 64,
      "hidden_size": 64,
      "intermediate_size": 160,
      "num_hidden_layers": 1,
      "num_attention_heads": 4,
      "num_key_value_heads": 4,
      "head_dim": 16,
      "max_position_embeddings": 64,
      "rms_norm_eps": 1e-5,
      "rope_theta": 1e4,
      "tie_word_embeddings": True,
    }
  )
  params = jax.tree.map(lambda w: 3 * w, table.init(jax.random.key(0), config))
  weights = {name: leaf[0] for name, leaf in params["layers"].items()}
  x, dy = jax.random.normal(jax.random.key(1), (2, 1, 24, 64))
  [rotation] = model.rotations(jnp.arange(24)[None], config)

  def norm(x, weight):
    mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(mean + config.norm_eps) * weight[None, None]

  def plain(weights, x):
    w, L = weights, x.shape[1]
    y = norm(x, w["attn_norm"])
    q, k, v = (jnp.dot(y, w[name]).reshape(1, L, 4, 16) for name in "qkv")
    q, k = model.rotate(q, rotation), model.rotate(k, rotation)
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / 4
    scores = jnp.where(jnp.tri(L, dtype=bool)[None, None], scores, -jnp.inf)
    out = jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), v)
    x = x + jnp.dot(out.reshape(x.shape), w["o"])
    y = norm(x, w["mlp_norm"])
    half = jax.nn.silu(jnp.dot(y, w["gate"])) * jnp.dot(y, w["up"])
    return x + jnp.dot(half, w["down"])

  def ours(weights, x):
    layers = jax.tree.map(lambda leaf: leaf[None], weights)
    # A whole model whose embedding is the input and whose last norm has weight 1.
    params = {"embed": x[0], "layers": layers, "norm": jnp.ones(64)}
    out, _ = model.hidden(
      params,
      jnp.arange(24)[None],
      jnp.arange(24)[None],
      attention.causal(config, dtype),
      config,
      dtype=dtype,
      remat=remat,
    )
    return out

  def exact(weights, x):
    return norm(plain(weights, x), jnp.ones(64))

  @functools.partial(jax.jit, static_argnums=0)
  def value_and_gradients(function):
    value, backward = jax.vjp(function, weights, x)
    return value, backward(dy)

  with jax.default_matmul_precision("highest"):  # also on a GPU
    expected = value_and_gradients(exact)
  leaves = jax.tree.leaves(value_and_gradients(ours)), jax.tree.leaves(expected)
  for a, b in zip(*leaves, strict=True):
    assert np.linalg.norm(a - b) < error * np.linalg.norm(b)


def test_a_tuple_of_layers_equals_stacked_layers(tmp_path):
  make_llama(tmp_path)
  config = decoder_config.read(tmp_path)
  params = weights.load(tmp_path, config)
  tokens = jnp.arange(20)[None]
  stacked, _ = model.hidden(params, tokens, tokens, attention.causal(config), config)
  layers = tuple(
    jax.tree.map(lambda leaf, y=y: leaf[y], params["layers"])
    for y in range(config.layers)
  )
  listed, _ = model.hidden(
    params | {"layers": layers}, tokens, tokens, attention.causal(config), config
  )
  np.testing.assert_allclose(stacked, listed, atol=1e-5)


@pytest.mark.parametrize("remat", ["none", "cheap"])
def test_unrolled_layers_have_the_loops_gradients(tmp_path, remat):
  make_llama(tmp_path)
  config = decoder_config.read(tmp_path)
  params = weights.load(tmp_path, config)
  tokens = jnp.arange(20)[None]

  def total(params, unroll):
    x, _ = model.hidden(
      params,
      tokens,
      tokens,
      attention.causal(config),
      config,
      remat=remat,
      unroll=unroll,
    )
    return jnp.sum(jnp.sin(x))

  loop, unrolled = (
    jax.jit(jax.value_and_grad(total), static_argnums=1)(params, unroll)
    for unroll in (False, True)
  )
  for a, b in zip(jax.tree.leaves(loop), jax.tree.leaves(unrolled), strict=True):
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_an_int8_product_is_exact_for_the_quantized_operands():
  """Each quantized weight differs from the original by at most half a step."""
  rng = np.random.default_rng(0)
  w_OI = rng.normal(size=(48, 64)).astype(np.float32)
  w_OI[7] = 0
  x_BI = rng.normal(size=(3, 1, 64)).astype(np.float32) * [[[1.0]], [[1e-3]], [[0.0]]]
  quantized = decode_weights.quantize(jnp.asarray(w_OI))
  w = (
    np.asarray(quantized.w, np.float64)
    * np.asarray(quantized.scale, np.float64)[:, None]
  )
  assert (np.abs(w - w_OI) <= np.asarray(quantized.scale)[:, None] * 0.50001).all()
  step = np.maximum(np.abs(x_BI).max(-1, keepdims=True) / 127, 1e-30)
  expected = np.round(x_BI / step) * step @ w.T
  for rows in (x_BI, x_BI[:1]):
    y = matmul.product(jnp.asarray(rows, jnp.float32), quantized, jnp.dtype("float32"))
    np.testing.assert_allclose(y, expected[: len(rows)], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_transposed_products_are_exact_and_accumulate_in_float32(rows):
  """One row is computed as a sum over the weights, more rows as a matrix product."""
  rng = np.random.default_rng(0)
  w_OI = jnp.asarray(rng.normal(size=(48, 640)), jnp.bfloat16)
  x_BI = jnp.asarray(rng.normal(size=(rows, 640)), jnp.bfloat16)
  y = matmul.product(x_BI, decode_weights.Transposed(w_OI), jnp.dtype("bfloat16"))
  expected = np.asarray(x_BI, np.float64) @ np.asarray(w_OI, np.float64).T
  np.testing.assert_allclose(y, expected, atol=1e-4)
