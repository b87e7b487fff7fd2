"""Reference log-probabilities are used only for what they were computed from."""

import dataclasses

import jax
import numpy as np
from etils import epath

from vpo_jax.train import reference, setup


def test_a_stale_file_is_computed_again(tmp_path, make_config, monkeypatch):
  config = make_config("dpo")
  model = setup.open_model(config, config.model)
  pairs = setup.read_examples(
    epath.Path(config.train), model, "dpo", config, epath.Path(tmp_path)
  )
  params = model.load()
  passes, compute = [], reference._compute

  def counted(*arguments):
    passes.append(arguments)
    return compute(*arguments)

  monkeypatch.setattr(reference, "_compute", counted)

  def logps(params, pairs):
    path = epath.Path(tmp_path / "reference.npz")
    return reference.logps(
      path, pairs, params, model.policy, model.placement, batch_size=8, budget=256
    )

  first = logps(params, pairs)
  np.testing.assert_array_equal(logps(params, pairs), first)
  assert len(passes) == 1, "the same work is not done twice"
  other = jax.tree.map(lambda leaf: 2 * leaf, params)
  moved = logps(other, pairs)
  assert len(passes) == 2
  assert np.abs(moved - first).min() > 1e-3
  turned = [dataclasses.replace(p, responses=p.responses[::-1]) for p in pairs]
  np.testing.assert_allclose(logps(other, turned), moved[:, ::-1], atol=1e-3)
  assert len(passes) == 3
