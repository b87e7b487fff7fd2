"""The group-relative policy gradient is that of TRL's own trainer."""

import collections
import types

import jax
import numpy as np
import pytest
import torch
import trl

from tests.train import test_group_objective
from vpo_jax.train import group_objective

pytestmark = pytest.mark.slow
LOW, HIGH, KL = 0.2, 0.28, 0.04


def theirs(loss_type, logps, reference, advantages, length):
  """`GRPOTrainer`'s loss and its gradient.

  Args:
    logps, reference: of the tokens of each response.
  """
  longest = max(map(len, logps))

  def padded(rows):
    return torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in rows])

  mask = torch.tensor([[k < len(row) for k in range(longest)] for row in logps]).long()
  given = padded(logps).requires_grad_()
  accelerator = types.SimpleNamespace(
    device="cpu",
    gather=lambda x: x,
    reduce=lambda x, reduction: x,
    sync_gradients=False,
    num_processes=1,
  )
  trainer = types.SimpleNamespace(
    _get_per_token_logps_and_entropies=lambda *a, **k: (given, 0 * given, None),
    aux_loss_enabled=False,
    top_entropy_quantile=1.0,
    off_policy_mask_threshold=None,
    importance_sampling_level="token",
    beta=KL,
    args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None),
    loss_type=loss_type,
    epsilon_low=LOW,
    epsilon_high=HIGH,
    use_vllm=False,
    model=types.SimpleNamespace(training=True),
    current_gradient_accumulation_steps=1,
    max_completion_length=length,
    _entropy_bonus_enabled=False,
    accelerator=accelerator,
    _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
  )
  prompt = torch.zeros(len(logps), 1, dtype=torch.long)
  inputs = {
    "prompt_ids": prompt,
    "prompt_mask": torch.ones_like(prompt),
    "completion_ids": torch.zeros_like(mask),
    "completion_mask": mask,
    "advantages": torch.tensor(advantages),
    "old_per_token_logps": padded(reference),
    "ref_per_token_logps": padded(reference),
  }
  loss = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
  loss.backward()
  return loss.item(), given.grad.numpy()


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo"])
def test_policy_gradient_is_trls(loss_type):
  rewards = np.array([[1.0, 4.0, 2.0, 3.0]] * 3)
  rewards[1] = [0.0, -1.0, 5.0, 5.0]
  lengths = np.array([[3, 5, 2, 7], [4, 1, 6, 2], [2, 1, 3, 4]])
  responses = test_group_objective.random_responses(rewards, lengths)
  scaled, length = loss_type == "grpo", None if loss_type == "grpo" else 64
  loss = group_objective.policy_gradient(
    clip_low=LOW, clip_high=HIGH, kl_weight=KL, scaled=scaled, length=length
  )

  def mean(logp_GP):
    total, weight, _ = loss(responses.replace(logp_GP=logp_GP))
    return total / weight

  ours, grads = jax.value_and_grad(mean)(responses.logp_GP)

  def rows(values_GP):
    per_tree = test_group_objective.tokens_of(responses, values_GP)
    return [row for tree in per_tree for row in tree]

  centered = rewards - rewards.mean(axis=1, keepdims=True)
  if scaled:  # as `GRPOTrainer` scales them
    centered /= rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4
  expected, their_grads = theirs(
    loss_type,
    rows(responses.logp_GP),
    rows(responses.reference_GP),
    centered.ravel(),
    length,
  )
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  for row, theirs_row in zip(rows(grads), their_grads, strict=True):
    np.testing.assert_allclose(row, theirs_row[: len(row)], atol=1e-6)
