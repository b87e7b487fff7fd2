"""Every family of models computes what transformers computes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests import families
from tests.data import test_forest
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest, packing
from vpo_jax.decoder import attention, head, model, sharding, table, weights
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder.tpu import layout
from vpo_jax.train import objective
from vpo_jax.train import policy as policies

LENGTH = 80


@pytest.fixture(scope="module")
def load(tmp_path_factory):
  """`load(name)`: transformers' model, and our config and parameters."""

  @functools.cache
  def load(name):
    folder = tmp_path_factory.mktemp(name)
    theirs = families.make(name, folder)
    config = decoder_config.read(folder)
    return theirs, config, weights.load(folder, config)

  return load


@pytest.fixture(params=families.DISTINCT)
def both(request, load):
  return load(request.param)


@pytest.fixture(params=families.FEW)
def few(request, load):
  return load(request.param)


@pytest.fixture(params=families.FAMILIES)
def any_family(request, load):
  return load(request.param)


@pytest.fixture(scope="module")
def tokens_BT():
  shape = 2, LENGTH
  return np.random.default_rng(0).integers(0, families.VOCAB, shape, dtype=np.int32)


@functools.partial(jax.jit, static_argnames="config")
def our_logits(params, tokens_BT, config):
  positions = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[None], tokens_BT.shape)
  x, _ = model.hidden(params, tokens_BT, positions, attention.causal(config), config)
  return model.logits(params, x, config)


def test_logits_equal_transformers(any_family, tokens_BT):
  theirs, config, params = any_family
  ours = np.asarray(our_logits(params, jnp.asarray(tokens_BT), config))
  with torch.no_grad():
    expected = theirs(torch.tensor(tokens_BT)).logits.numpy()
  np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def test_gradients_equal_torchs(both, tokens_BT):
  theirs, config, params = both
  tokens = jnp.asarray(tokens_BT)

  def loss(params):
    logps = jax.nn.log_softmax(our_logits(params, tokens, config)[:, :-1])
    return -jnp.mean(jnp.take_along_axis(logps, tokens[:, 1:, None], axis=-1))

  grads = jax.jit(jax.grad(loss))(params)
  theirs = theirs.double()  # so that the gap is the rounding of our float32
  tokens = torch.tensor(tokens_BT).long()
  logps = theirs(tokens).logits[:, :-1].log_softmax(-1)
  theirs.zero_grad()
  (-logps.gather(-1, tokens[:, 1:, None]).mean()).backward()
  expected = {name: w.grad.numpy() for name, w in theirs.named_parameters()}
  theirs.float()
  for name, ours in weights.hf_tensors(grads, table.table(config), "float32"):
    gap = np.linalg.norm(ours - expected[name])
    assert gap < 1e-4 * np.linalg.norm(expected[name]), name


def pairs():
  """Examples with a common instruction and two responses, deeper than any window."""
  rng = np.random.default_rng(1)

  def tokens(low, high):
    return rng.integers(1, families.VOCAB, rng.integers(low, high), dtype=np.int32)

  stem = tokens(30, 31)
  return [
    data_examples.Example(
      str(i), np.concatenate([stem, tokens(5, 9)]), (tokens(4, 20), tokens(4, 20))
    )
    for i in range(4)
  ]


def packed_pairs(config):
  """`pairs` and how they are packed: one micro-batch."""
  examples = pairs()
  plan = packing.plan(
    examples,
    [[0, 1, 2, 3]],
    groups=1,
    budget=512,
    flops_per_token=config.flops_per_token,
  )
  return examples, plan


def test_the_forest_equals_plain_rows(few, monkeypatch):
  monkeypatch.setattr(head, "MAX_LOGITS_ON_CPU", 2**14)  # several blocks
  _, config, params = few
  examples, plan = packed_pairs(config)
  (micro,) = plan.steps[0]
  order = [i for row in micro[0] for i in row]
  batch = forest.build(examples, plan.shapes[0], micro)
  scale = np.random.default_rng(2).normal(size=(4, 2)).astype(np.float32)

  def packed(params):
    logp_GP = policies.Policy(config).token_logps(params, batch, plan.shapes[0])
    logps = objective.Responses.of(batch, logp_GP).logp_GNE[0, :4]
    logps = jnp.zeros_like(logps).at[jnp.asarray(order)].set(logps)
    return jnp.sum(scale * logps), logps

  def plain(params):
    logps = test_forest.plain_logps(params, examples, config)
    return jnp.sum(scale * logps), logps

  (_, ours), our_grads = jax.jit(jax.value_and_grad(packed, has_aux=True))(params)
  (_, theirs), their_grads = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
  np.testing.assert_allclose(ours, theirs, atol=1e-3)
  for a, b in zip(
    jax.tree.leaves(our_grads), jax.tree.leaves(their_grads), strict=True
  ):
    assert jnp.linalg.norm(a - b) < 1e-4 * jnp.linalg.norm(b)


def test_the_tpus_kernel_gives_the_same(few, monkeypatch):
  """Windows, caps and kinds of layers reach the kernel, here interpreted."""
  _, config, params = few
  examples, plan = packed_pairs(config)
  batch = forest.build(examples, plan.shapes[0], plan.steps[0][0])

  def values():
    def loss(params):
      policy = policies.Policy(config, remat="cheap")
      logp_GP = policy.token_logps(params, batch, plan.shapes[0])
      logp_GNE = objective.Responses.of(batch, logp_GP).logp_GNE
      return jnp.sum(jnp.sin(logp_GNE)), logp_GNE

    (_, logps), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return [logps, *jax.tree.leaves(grads)]

  plain = values()
  monkeypatch.setattr(attention, "has_kernel", lambda *_: True)
  monkeypatch.setattr(layout, "BLOCK", 32)
  for ours, theirs in zip(values(), plain, strict=True):
    assert jnp.linalg.norm(ours - theirs) < 1e-4 * jnp.linalg.norm(theirs)


def test_eight_devices_equal_one(few, tokens_BT):
  _, config, params = few
  mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  placement = sharding.place(config, mesh)
  tokens = jnp.asarray(np.concatenate([tokens_BT, tokens_BT[:, ::-1]]))

  def loss(params, tokens, rows=None):
    positions = jnp.broadcast_to(jnp.arange(LENGTH)[None], tokens.shape)
    x, _ = model.hidden(
      params,
      tokens,
      positions,
      attention.causal(config),
      config,
      remat="cheap",
      row_sharding=rows,
    )
    return jnp.sum(jnp.sin(model.logits(params, x, config)))

  one = jax.jit(jax.value_and_grad(loss))(params, tokens)
  split = jax.jit(jax.value_and_grad(loss), static_argnums=2)(
    jax.device_put(params, placement.params),
    jax.device_put(tokens, placement.batch),
    placement.batch,
  )
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(split), strict=True):
    assert np.linalg.norm(a - np.asarray(b)) < 1e-4 * np.linalg.norm(a)


def test_a_tuple_of_layers_equals_stacked_layers(both, tokens_BT):
  """Decoding has one, in which the kind of each layer is known when it is traced."""
  _, config, params = both
  layers = tuple(
    jax.tree.map(lambda leaf, y=y: leaf[y], params["layers"])
    for y in range(config.layers)
  )
  ours = our_logits(params | {"layers": layers}, jnp.asarray(tokens_BT), config)
  stacked = our_logits(params, jnp.asarray(tokens_BT), config)
  np.testing.assert_allclose(ours, stacked, atol=1e-5 * np.abs(stacked).max())
