"""Bayesian ridge regression of rewards within a query, in closed form.

What is predicted is a prompt's gain: its reward minus the mean of its query's prompts.
Rewards of different queries differ for reasons that no prompt can change; centring
rewards and features by query removes them (the within estimator of panel data).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

# Precisions of the prior that are tried, in multiples of the number of prompts.
PENALTIES = np.logspace(-4, 3, 29)


@dataclasses.dataclass(frozen=True)
class Head:
  """A fitted head. The prior of the weights is normal, with mean 0.

  Attributes:
    scale_F: the standard deviation of each feature within a query.
    weight_F: the posterior mean of the weights of the scaled features.
    basis_FR: the right singular vectors of the scaled features.
    variance_R: the posterior variance of the weights along them, over noise^2.
    rest: that along any other direction, where the prior is all that is known.
    noise: standard deviation of what the features do not explain, in units of the
      reward.
  """

  scale_F: Float[np.ndarray, " F"]
  weight_F: Float[np.ndarray, " F"]
  basis_FR: Float[np.ndarray, "F R"]
  variance_R: Float[np.ndarray, " R"]
  rest: float
  noise: float

  def predict(
    self, x_NF: Float[np.ndarray, "N F"], query_N: Int[np.ndarray, " N"]
  ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Mean and standard deviation of each prompt's gain, in units of the reward.

    Args:
      x_NF: features of the prompts.
      query_N: a number of each prompt's query.
    """
    x_NF = centre(x_NF.astype(np.float64), query_N) / self.scale_F
    along_NR = x_NF @ self.basis_FR
    outside_N = np.square(x_NF).sum(axis=1) - np.square(along_NR).sum(axis=1)
    spread_N = np.square(along_NR) @ self.variance_R
    spread_N += self.rest * np.maximum(outside_N, 0)
    return x_NF @ self.weight_F, self.noise * np.sqrt(1 + spread_N)


def fit(
  x_NF: Float[np.ndarray, "N F"],
  reward_N: Float[np.ndarray, " N"],
  query_N: Int[np.ndarray, " N"],
) -> Head:
  """Fits a head; the prior's precision is the one of `PENALTIES` that predicts best.

  Best is the least mean squared error of the gains of a query by the head that is
  fitted to all other queries. The noise is such that these errors, divided by their
  predicted deviations, have a mean square of 1.

  Args:
    x_NF: features of the prompts.
    reward_N: their rewards.
    query_N: a number of each prompt's query; a query has at least two prompts.
  """
  x_NF = centre(x_NF.astype(np.float64), query_N)
  gain_N = centre(reward_N.astype(np.float64), query_N)
  scale_F = x_NF.std(axis=0)
  scale_F[scale_F == 0] = 1
  u_NR, s_R, vt_RF = np.linalg.svd(x_NF / scale_F, full_matrices=False)
  kept = s_R > 1e-9 * s_R[:1]  # centring takes one from the rank for each query
  u_NR, s_R, vt_RF = u_NR[:, kept], s_R[kept], vt_RF[kept]

  def errors(penalty: float) -> tuple[np.ndarray, np.ndarray]:
    return leave_query_out(u_NR, s_R, gain_N, query_N, penalty)

  penalties = PENALTIES * len(x_NF)
  losses = [np.square(errors(penalty)[0]).mean() for penalty in penalties]
  penalty = float(penalties[np.argmin(losses)])
  error_N, spread_N = errors(penalty)
  variance_R = 1 / (s_R**2 + penalty)
  return Head(
    scale_F=scale_F,
    weight_F=vt_RF.T @ (variance_R * s_R * (u_NR.T @ gain_N)),
    basis_FR=vt_RF.T,
    variance_R=variance_R,
    rest=1 / penalty,
    noise=float(np.sqrt(np.mean(error_N**2 / (1 + spread_N)))),
  )


def leave_query_out(
  u_NR: Float[np.ndarray, "N R"],
  s_R: Float[np.ndarray, " R"],
  gain_N: Float[np.ndarray, " N"],
  query_N: Int[np.ndarray, " N"],
  penalty: float,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
  """Errors of each query's gains by the ridge regression of all other queries.

  With the hat matrix H of all queries and its block h of one query, they are
  (1 - h)^-1 times the query's residuals, and the variances of its predictions over
  noise^2 are the diagonal of (1 - h)^-1 h: leave-one-out of a linear smoother, for
  blocks (Hastie, Tibshirani and Friedman, equation 7.64).

  Args:
    u_NR, s_R: left singular vectors and singular values of the features.
    gain_N: the centred rewards.
    query_N: a number of each prompt's query.
    penalty: the precision of the prior, over the noise's.
  """
  shrink_R = s_R**2 / (s_R**2 + penalty)
  residual_N = gain_N - u_NR @ (shrink_R * (u_NR.T @ gain_N))
  error_N, spread_N = np.empty_like(gain_N), np.empty_like(gain_N)
  for place_QK in _by_size(query_N):
    u_QKR = u_NR[place_QK]
    h_QKK = (u_QKR * shrink_R) @ np.swapaxes(u_QKR, 1, 2)
    inverse_QKK = np.linalg.inv(np.eye(place_QK.shape[1]) - h_QKK)
    error_N[place_QK] = (inverse_QKK @ residual_N[place_QK][..., None])[..., 0]
    spread_N[place_QK] = np.einsum("qkl,qlk->qk", inverse_QKK, h_QKK)
  return error_N, spread_N


def _by_size(query_N: np.ndarray) -> list[np.ndarray]:
  """The places of each query's prompts; one array [Q, K] for each K."""
  order = np.argsort(query_N, kind="stable")
  _, counts = np.unique(query_N, return_counts=True)
  places = np.split(order, np.cumsum(counts)[:-1])
  return [
    np.stack([one for one in places if len(one) == size]) for size in np.unique(counts)
  ]


def centre(
  x: Float[np.ndarray, "N *rest"], query_N: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N *rest"]:
  """`x` minus its mean over the prompts of the same query."""
  _, number_N, counts = np.unique(query_N, return_inverse=True, return_counts=True)
  sums = np.zeros((len(counts), *x.shape[1:]))
  np.add.at(sums, number_N, x)
  return x - (sums.T / counts).T[number_N]
