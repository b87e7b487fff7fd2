"""Group losses equal loops over responses and tokens, written out here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import test_objective
from vpo_jax.train import group_objective, objective, pair_objective

RNG = np.random.default_rng(0)
TREES, BRANCHES, TOKENS = 3, 4, 40


def random_responses(rewards, lengths):
  """One group; the tokens of all responses in random order, and some padding."""
  leaves = np.repeat(np.arange(lengths.size), lengths.ravel())
  leaves = np.concatenate([leaves, np.full(TOKENS - len(leaves), lengths.size)])
  leaf_GP = RNG.permutation(leaves)[None]
  return objective.Responses(
    logp_GP=jnp.asarray(RNG.normal(-2, 1, (1, TOKENS)), jnp.float32),
    reference_GP=jnp.asarray(RNG.normal(-2, 1, (1, TOKENS)), jnp.float32),
    leaf_GP=jnp.asarray(leaf_GP, jnp.int32),
    tokens_GNE=jnp.asarray(lengths[None], jnp.int32),
    reward_GNE=jnp.asarray(rewards[None], jnp.float32),
  )


@pytest.fixture
def responses():
  """A ranked group, one with a tie, a missing and an unknown response, one alone."""
  rewards = np.array([[1.0, 4.0, 2.0, 3.0], [2.0, 2.0, 0.0, np.nan], [1.0, 0, 0, 0]])
  lengths = np.array([[3, 5, 2, 7], [4, 1, 6, 2], [2, 0, 0, 0]])
  return random_responses(rewards, lengths)


def tokens_of(responses, values):
  """values[tree][branch]: of the response's tokens, as float64."""
  leaf_P = np.asarray(responses.leaf_GP[0])
  flat = np.asarray(values[0], np.float64)
  return [
    [flat[leaf_P == tree * BRANCHES + branch] for branch in range(BRANCHES)]
    for tree in range(TREES)
  ]


def test_sums_means_and_spread(responses):
  logps = tokens_of(responses, responses.logp_GP)
  sums = np.array([[row.sum() for row in tree] for tree in logps])
  np.testing.assert_allclose(responses.logp_GNE[0], sums, rtol=1e-5)
  means = np.array([[row.mean() if row.size else 0 for row in tree] for tree in logps])
  np.testing.assert_allclose(responses.means(responses.logp_GP)[0], means, rtol=1e-5)
  spread = responses.spread(responses.tokens_GNE.astype(jnp.float32))
  for tree, row in enumerate(tokens_of(responses, spread)):
    for branch, values in enumerate(row):
      assert set(values) <= {float(responses.tokens_GNE[0, tree, branch])}
  padding = responses.leaf_GP == TREES * BRANCHES
  assert not np.asarray(spread)[np.asarray(padding)].any()


def test_plackett_luce_is_equation_20(responses):
  total, weight, metrics = group_objective.plackett_luce(0.3)(responses)
  scores = 0.3 * np.asarray(responses.logp_GNE - responses.reference_GNE)[0]

  def chosen(first, rivals):
    return -np.log(np.exp(first) / np.exp([first, *rivals]).sum())

  a, b, c, d = scores[0][[1, 3, 2, 0]]  # from the best to the worst
  ranked = chosen(a, [b, c, d]) + chosen(b, [c, d]) + chosen(c, [d])
  x, y, z, _ = scores[1]  # x and y are equally good
  tied = chosen(x, [z]) + chosen(y, [z])
  assert weight == 2
  np.testing.assert_allclose(total, ranked + tied, rtol=1e-5)
  right = np.mean([a > b, a > c, a > d, b > c, b > d, c > d]) + np.mean([x > z, y > z])
  np.testing.assert_allclose(metrics["rewards/accuracies"], right, rtol=1e-6)


def test_plackett_luce_of_two_is_dpo():
  given = test_objective.responses(
    test_objective.pairs(*test_objective.LOGPS),
    test_objective.pairs(*test_objective.REFERENCE),
    [test_objective.TOKENS],
    test_objective.pairs([2.0, 1.0], [3.0, -1.0], [0.5, 0.0]),
  )
  ours, dpo = group_objective.plackett_luce(0.3), pair_objective.dpo(0.3)
  np.testing.assert_allclose(ours(given)[0], dpo(given)[0], rtol=1e-5)


@pytest.mark.parametrize("length", [None, 50])
@pytest.mark.parametrize("scaled", [True, False])
def test_policy_gradient_is_the_loop_over_tokens(responses, length, scaled):
  """Equation 3 of GRPO, and Dr. GRPO's."""
  loss = group_objective.policy_gradient(
    clip_low=0.2, clip_high=0.3, kl_weight=0.05, scaled=scaled, length=length
  )
  total, weight, metrics = loss(responses)
  new = tokens_of(responses, responses.logp_GP)
  old = tokens_of(responses, responses.reference_GP)
  expected = kl_total = 0.0
  for tree, members in ((0, [0, 1, 2, 3]), (1, [0, 1, 2])):
    rewards = np.asarray(responses.reward_GNE)[0, tree][members].astype(np.float64)
    advantage = rewards - rewards.mean()
    if scaled:
      advantage /= rewards.std(ddof=1) + 1e-4
    for branch, gain in zip(members, advantage, strict=True):
      terms, kls = [], []
      for p, q in zip(new[tree][branch], old[tree][branch], strict=True):
        ratio = np.exp(p - q)
        kls.append(np.exp(q - p) - (q - p) - 1)
        clipped = min(max(ratio, 0.8), 1.3)
        terms.append(min(ratio * gain, clipped * gain) - 0.05 * kls[-1])
      expected -= sum(terms) / (length or len(terms))
      kl_total += np.mean(kls)
  assert weight == 7
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  np.testing.assert_allclose(metrics["kl"], kl_total, rtol=1e-4)


@pytest.mark.parametrize(
  "loss",
  [
    group_objective.plackett_luce(0.3),
    group_objective.policy_gradient(
      clip_low=0.2, clip_high=0.2, kl_weight=0.1, scaled=True
    ),
  ],
)
def test_what_is_left_out_has_no_gradient(responses, loss):
  def total(logp_GP):
    return loss(responses.replace(logp_GP=logp_GP))[0]

  grads = tokens_of(responses, jax.grad(total)(responses.logp_GP))
  assert not np.isnan(np.concatenate([np.concatenate(row) for row in grads])).any()
  assert all(np.abs(row).max() > 0 for row in grads[0])
  assert not grads[1][3].any()
  assert not grads[2][0].any()


def test_kto_is_its_papers_loss():
  other = group_objective.MISMATCHED
  rewards = np.array([[1.0, 0.0, other, 0.0], [1.0, np.nan, 0.0, other], [0.0] * 4])
  lengths = np.array([[3, 5, 2, 7], [4, 1, 6, 2], [2, 0, 0, 0]])
  given = random_responses(rewards, lengths)
  loss = group_objective.Kto(0.3, desirable_weight=1.5, undesirable_weight=0.5)
  ratios = np.asarray(given.logp_GNE - given.reference_GNE, np.float64)[0]

  total, weight = loss.baseline(given)
  assert weight == 2
  np.testing.assert_allclose(total, ratios[0, 2] + ratios[1, 3], rtol=1e-5)

  def sigmoid(x):
    return 1 / (1 + np.exp(-x))

  for baseline, z0 in ((0.7, 0.7), (-0.7, 0.0)):
    with_baseline = given.replace(baseline=jnp.asarray(baseline))
    desirable = [1 - sigmoid(0.3 * (ratios[k] - z0)) for k in ((0, 0), (1, 0))]
    not_so = ((0, 1), (0, 3), (1, 2), (2, 0))
    undesirable = [1 - sigmoid(0.3 * (z0 - ratios[k])) for k in not_so]
    expected = 1.5 * sum(desirable) + 0.5 * sum(undesirable)
    total, weight, metrics = loss(with_baseline)
    assert weight == 6
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl"] / weight, z0, rtol=1e-6)

  def of_baseline(baseline):
    return loss(given.replace(baseline=baseline))[0]

  assert jax.grad(of_baseline)(jnp.asarray(0.7)) == 0
