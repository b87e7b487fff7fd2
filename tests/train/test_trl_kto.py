"""KTO's loss and gradient are those of TRL's own trainer."""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import trl

from tests.train import test_group_objective
from vpo_jax.train import group_objective

pytestmark = pytest.mark.slow
BETA, DESIRABLE, UNDESIRABLE = 0.3, 1.5, 0.5


def theirs(logps, references, labels, mismatched):
  """`KTOTrainer`'s loss and its gradient.

  Args:
    logps: of the tokens of each response.
    references: sum over each response's tokens under the reference.
    mismatched: (log-probability, that under the reference) of each mismatched response.
  """
  longest = max(map(len, logps))
  rows = [[*row, *[0.0] * (longest - len(row))] for row in logps]
  given = torch.tensor(rows, requires_grad=True)
  out = types.SimpleNamespace(log_probs=given, entropy=0 * given, mean_logits=0 * given)

  def model(**_):
    return out

  model.training = True
  trainer = types.SimpleNamespace(
    model=model,
    accelerator=types.SimpleNamespace(
      device="cpu", gather_for_metrics=lambda values: values
    ),
    _compute_kl_logps=lambda *_: torch.tensor([one for one, _ in mismatched]),
    aux_loss_enabled=False,
    precompute_ref_logps=True,
    calculate_KL=True,
    loss_type="kto",
    beta=BETA,
    desirable_weight=DESIRABLE,
    undesirable_weight=UNDESIRABLE,
    _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
    _total_train_tokens=0,
    _tp_size=1,
  )
  ids = torch.zeros(len(logps), longest + 1, dtype=torch.long)
  inputs = {
    "input_ids": ids,
    "attention_mask": torch.ones_like(ids),
    "completion_mask": torch.ones_like(ids),
    "label": torch.tensor(labels),
    "ref_logps": torch.tensor(references),
    "ref_KL_logps": torch.tensor([one for _, one in mismatched]),
  }
  loss = trl.KTOTrainer._compute_loss(trainer, model, inputs, False)
  loss.backward()
  return loss.item(), given.grad.numpy(), trainer._metrics["train"]["kl"][0]


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_kto_is_trls(shift):
  """With a positive and a negative estimate of the KL."""
  other = group_objective.MISMATCHED
  rewards = np.array([[1.0, 0.0, 1.0, other], [0.0, 0.0, 1.0, other], [1, 0, 0, other]])
  lengths = np.array([[3, 5, 2, 7], [4, 1, 6, 2], [2, 1, 3, 4]])
  responses = test_group_objective.random_responses(rewards, lengths)
  responses = responses.replace(logp_GP=responses.logp_GP + shift / 4)
  loss = group_objective.Kto(BETA, DESIRABLE, UNDESIRABLE)

  def mean(logp_GP):
    given = responses.replace(logp_GP=logp_GP)
    total, weight = loss.baseline(given)
    total, weight, metrics = loss(given.replace(baseline=total / weight))
    return total / weight, metrics["kl"] / weight

  (ours, kl), grads = jax.value_and_grad(mean, has_aux=True)(responses.logp_GP)

  def rows(values_GP, rewards_are):
    per_tree = test_group_objective.tokens_of(responses, values_GP)
    return [
      row
      for tree, known in zip(per_tree, rewards, strict=True)
      for row, reward in zip(tree, known, strict=True)
      if rewards_are(reward)
    ]

  def sums(values_GP, rewards_are):
    return [float(row.sum()) for row in rows(values_GP, rewards_are)]

  mismatched = [sums(x, np.isinf) for x in (responses.logp_GP, responses.reference_GP)]
  expected, their_grads, their_kl = theirs(
    rows(responses.logp_GP, np.isfinite),
    sums(responses.reference_GP, np.isfinite),
    [bool(reward) for reward in rewards.ravel() if np.isfinite(reward)],
    list(zip(*mismatched, strict=True)),
  )
  assert (their_kl > 0) == (shift > 0)
  np.testing.assert_allclose(kl, their_kl, rtol=1e-5)
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  for row, theirs_row in zip(rows(grads, np.isfinite), their_grads, strict=True):
    np.testing.assert_allclose(row, theirs_row[: len(row)], atol=1e-6)
  assert not any(jnp.any(row != 0) for row in rows(grads, np.isinf))
