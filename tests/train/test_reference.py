"""Reference log-probabilities are used only for what they were computed from."""

import dataclasses
import os

import jax
import numpy as np
from etils import epath

from vpo_jax.data import examples as data_examples
from vpo_jax.train import reference, setup


def test_a_stale_file_is_computed_again(tmp_path, make_config):
  config = make_config("dpo")
  model = setup.open_model(config, epath.Path(config.model))
  pairs, _ = data_examples.read(config.train, model.format, "dpo", 512)
  params = model.load()
  path = epath.Path(tmp_path / "reference.npz")

  def logps(params, pairs):
    """The log-probabilities, and whether the file was written anew."""
    if path.exists():
      os.utime(path, (0, 0))
    found, _ = reference.logps(
      path,
      pairs,
      params,
      model.policy,
      model.placement,
      batch_size=8,
      budget=256,
      check_packing=False,
      hang_minutes=10.0,
    )
    flat = [np.concatenate([row[k] for row in found]) for k in (0, 1)]
    return flat, path.stat().mtime > 0

  first, _ = logps(params, pairs)
  again, written = logps(params, pairs)
  for ours, theirs in zip(again, first, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert not written, "the same work is not done twice"
  other = jax.tree.map(lambda leaf: 2 * leaf, params)
  moved, written = logps(other, pairs)
  assert written
  assert np.abs(moved[0] - first[0]).mean() > 1e-3
  swapped = [dataclasses.replace(p, responses=p.responses[::-1]) for p in pairs]
  found, written = logps(other, swapped)
  for ours, theirs in zip(found, moved[::-1], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
  assert written
