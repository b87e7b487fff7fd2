"""The TPU's kernel, interpreted, gives what plain attention gives."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data import test_forest
from vpo_jax.data import forest
from vpo_jax.decoder import attention, paths, sharding, table
from vpo_jax.decoder.tpu import attention as tpu_attention
from vpo_jax.decoder.tpu import grid, layout
from vpo_jax.train import objective
from vpo_jax.train import policy as policies

CONFIG = dataclasses.replace(test_forest.CONFIG, vocab=98)  # for a tensor axis of 2
STEM, BLOCK = 5, 8


def forest_paths(seed=0, rows=2, trees=3, branches=2):
  """Rows of trees after a stem of 5 tokens, of which 4 are used; some padding."""
  rng = np.random.default_rng(seed)
  tree, branch, depth = ([[] for _ in range(rows)] for _ in range(3))
  for row in range(rows):
    for number in range(1, trees + 1):
      trunk = rng.integers(1, 9)
      parts = [(0, trunk, 4)]
      parts += [
        (b, rng.integers(1, 12), 4 + trunk)
        for b in range(1, rng.integers(1, branches + 1) + 1)
      ]
      for b, size, start in parts:
        tree[row] += [number] * size
        branch[row] += [b] * size
        depth[row] += range(start, start + size)
  T = max(map(len, tree)) + 3

  def pad(lists):
    return jnp.asarray([one + [0] * (T - len(one)) for one in lists], jnp.int32)

  stem_depth = jnp.broadcast_to(jnp.arange(STEM)[None], (rows, STEM))
  found, _ = paths.of_forest(
    pad(tree)[:, None],
    pad(branch)[:, None],
    jnp.concatenate([stem_depth, pad(depth)], axis=1),
    jnp.full(rows, STEM - 1),
  )
  return found


def random_arrays(found, H=16):
  B, T, S = found.mask().shape
  keys = jax.random.split(jax.random.key(0), 4)
  q, weight = (jax.random.normal(key, (B, T, 4, H)) for key in keys[:2])
  k, v = (jax.random.normal(key, (B, S, 2, H)) for key in keys[2:])
  return (q, k, v), weight


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 1e-2)])
@pytest.mark.parametrize(("cap", "window"), [(None, None), (2.0, None), (None, 6)])
def test_the_kernel_equals_plain_attention(dtype, error, cap, window):
  found = forest_paths()
  arrays, weight = random_arrays(found)
  settings = grid.Settings(dtype, cap, BLOCK, interpret=True)
  of_paths = layout.make(found, window, BLOCK)

  def kernel(q, k, v):
    return tpu_attention.attention(q, k, v, of_paths, settings)

  def plain(q, k, v):
    mask = found.mask(window)
    return attention.plain(q, k, v, mask, jnp.dtype("float32"), cap)

  @functools.partial(jax.jit, static_argnums=0)
  def values(attend):
    out, backward = jax.vjp(attend, *arrays)
    return out, *backward(weight)

  for ours, theirs in zip(values(kernel), values(plain), strict=True):
    assert np.linalg.norm(ours - theirs) < error * np.linalg.norm(theirs)


def test_blocks_without_a_path_are_skipped():
  found = forest_paths(rows=1, trees=8)
  visited = np.asarray(layout.make(found, None, BLOCK).visited_Bij)[0]
  T, S = found.mask().shape[1:]
  mask = np.zeros((visited.shape[0] * BLOCK, visited.shape[1] * BLOCK), bool)
  mask[:T, :S] = np.asarray(found.mask())[0]
  for i, j in np.ndindex(*visited.shape):
    part = mask[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
    assert visited[i, j] == part.any()
  assert visited.mean() < 0.5


MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize(
  ("mesh", "remat"),
  [
    pytest.param({}, "cheap", marks=pytest.mark.slow),
    (MIXED, "full"),
    pytest.param({}, "full", marks=pytest.mark.slow),
    pytest.param(MIXED, "cheap", marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_a_forest_gives_the_same_on_a_mesh_with_the_kernel(monkeypatch, mesh, remat):
  """Log-probabilities and gradients, with blocks that are not whole."""
  sizes = {"data": 1, "fsdp": 1, "tensor": 1} | mesh
  groups = sizes["data"] * sizes["fsdp"]
  placement = sharding.place(
    CONFIG, sharding.make_mesh(sizes, jax.devices()[: groups * sizes["tensor"]])
  )
  params = jax.device_put(table.init(jax.random.key(0), CONFIG), placement.params)
  examples = test_forest.make_examples(0, 12, branches=2)
  plan = test_forest.make_plan(examples, groups, budget=64)
  shape, micro = plan.shapes[0], plan.steps[0][0]
  own = forest.build(examples, shape, micro, groups=placement.own_groups)
  batch = placement.shard_groups(own)
  policy = policies.Policy(CONFIG, remat=remat, rows=placement.batch)

  def values():
    def loss(params):
      logp_GNE = objective.Responses.of(
        batch, policy.token_logps(params, batch, shape)
      ).logp_GNE
      return jnp.sum(jnp.sin(logp_GNE)), logp_GNE

    (_, logps), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return [np.asarray(logps), *map(np.asarray, jax.tree.leaves(grads))]

  plain = values()
  monkeypatch.setattr(attention, "has_kernel", lambda *_: True)
  monkeypatch.setattr(layout, "BLOCK", BLOCK)
  for ours, theirs in zip(values(), plain, strict=True):
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)
