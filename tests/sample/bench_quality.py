r"""Measures how a precision changes the texts' log-probability under the float32 model.

    python tests/sample/bench_quality.py --precision=bfloat16 --queries=64

Prints three estimates of the relative change of the mean log-probability, in percent
with a standard error (jackknife over queries); negative is worse:

- `next`: the expected log-probability of the next token, at each position of texts that
  float32 drew. It sums over the vocabulary, so it has no sampling noise, but it ignores
  that the other precision reaches other positions.
- `weighted`: of whole texts. Two sets of sampled texts differ by chance far more than
  by rounding, so float32's texts are reweighted by the ratio of the two probabilities
  (importance sampling). It is not meaningful if a few texts have most of the weight.
- `own`: of whole texts, sampled in each precision with the same seeds.

The last line is JSON; log-probabilities are in nats per token, at temperature 1.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.special

from vpo_jax import queries
from vpo_jax.decoder import attention, model, source
from vpo_jax.runtime import compilation
from vpo_jax.sample import lm, schedule, settings


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default=source.SMOLLM2)
  parser.add_argument("--precision", default="bfloat16")
  parser.add_argument("--queries", type=int, default=64)
  parser.add_argument("--num_candidates", type=int, default=4)
  parser.add_argument("--max_new_tokens", type=int, default=64)
  args = parser.parse_args()
  compilation.enable_cache()
  exact = lm.load(args.model)
  rounded = lm.load(args.model, precision=args.precision)
  texts = [row.text for row in queries.load(queries.SHIPPED)[0]][: args.queries]
  wanted = settings.Settings(
    num_candidates=args.num_candidates, max_new_tokens=args.max_new_tokens
  )
  ours, theirs = (draw(policy, texts, wanted) for policy in (exact, rounded))
  scores_QKC = np.array([[score(exact, rounded, job) for job in row] for row in ours])
  tokens, logp, *_, divergence = scores_QKC.reshape(-1, scores_QKC.shape[-1]).sum(0)
  other_QKC = np.array([[score(exact, None, job) for job in row] for row in theirs])
  result = {
    "tokens": int(tokens),
    "mean_logp": round(logp / tokens, 4),
    "divergence_per_token": round(divergence / tokens, 6),
    "next_percent": jackknife(by_next, scores_QKC),
    "weighted_percent": jackknife(by_weight, scores_QKC),
    "own_percent": jackknife(by_own, np.concatenate([scores_QKC, other_QKC], axis=2)),
  }
  print(json.dumps({"precision": args.precision, **result}))


def draw(policy: lm.LanguageModel, texts: list[str], wanted: settings.Settings) -> list:
  scheduler = schedule.Scheduler(policy, slots=32)
  rows = [scheduler.add(text, policy.prompt(text), wanted) for text in texts]
  while scheduler.step():
    pass
  return rows


def jackknife(change: Callable, scores_QKC: np.ndarray) -> list[float]:
  """The relative change in percent, and its standard error over queries."""
  count = len(scores_QKC)
  without = [change(np.delete(scores_QKC, q, axis=0)) for q in range(count)]
  error = np.sqrt((count - 1) * np.var(without))
  return [round(100 * float(x), 3) for x in (change(scores_QKC), error)]


def by_next(scores_QKC: np.ndarray) -> float:
  _, _, here, there, _, _ = scores_QKC.reshape(-1, 6).sum(axis=0)
  return (there - here) / abs(here)


def by_weight(scores_QKC: np.ndarray) -> float:
  tokens, logp, _, _, weight, _ = scores_QKC.reshape(-1, 6).T
  weight = np.exp(weight)
  before = logp.sum() / tokens.sum()
  after = (weight * logp).sum() / (weight * tokens).sum()
  return (after - before) / abs(before)


def by_own(scores_QKC: np.ndarray) -> float:
  tokens, logp, *_, own_tokens, own_logp = scores_QKC.reshape(-1, 8).sum(axis=0)
  before, after = logp / tokens, own_logp / own_tokens
  return (after - before) / abs(before)


def score(exact: lm.LanguageModel, rounded: lm.LanguageModel | None, job: Any) -> list:
  """Statistics of one text, summed over its tokens.

  Returns:
    number of tokens; their log-probability; and if there is another precision, the
    expected log-probability of the next token under each precision, the logarithm of
    the text's importance weight, and KL(float32 || other).
  """
  T = len(job.tokens)
  drawn_T1 = np.array(job.tokens)[:, None]
  logp_TV, exact_TV = logps(exact, job)
  logp = np.take_along_axis(logp_TV, drawn_T1, 1).sum()
  if rounded is None:
    return [T, logp]
  _, other_TV = logps(rounded, job)
  p_TV, q_TV = np.exp(exact_TV), np.exp(other_TV)
  ratio_TV = other_TV - exact_TV
  weight = np.take_along_axis(ratio_TV, drawn_T1, 1).sum()
  here, there = (p_TV * logp_TV).sum(), (q_TV * logp_TV).sum()
  return [T, logp, here, there, weight, -(p_TV * ratio_TV).sum()]


def logps(policy: lm.LanguageModel, job: Any) -> tuple[np.ndarray, np.ndarray]:
  """log p [T, V] of the next token in nats, at temperature 1 and at the text's own."""
  row = [*job.prompt.tokens, *job.tokens]
  most = len(job.prompt.tokens) + job.limit
  tokens_1L = np.zeros((1, -(-most // 64) * 64), np.int32)  # few shapes
  tokens_1L[0, : len(row)] = row
  first, dtype = len(job.prompt.tokens), policy.dtype
  logits_TV = forward(
    policy.params,
    tokens_1L,
    first,
    most=job.limit,
    config=policy.config,
    dtype=dtype,
  )
  logits_TV = np.asarray(logits_TV, np.float64)[: len(job.tokens)]
  scaled_TV = logits_TV / job.settings.temperature
  return scipy.special.log_softmax(logits_TV, 1), scipy.special.log_softmax(
    scaled_TV, 1
  )


@jax.jit(static_argnames=("most", "config", "dtype"))
def forward(params, tokens_1L, first, most, config, dtype):
  position_1L = np.arange(tokens_1L.shape[1], dtype=np.int32)[None]
  x_1LD, _ = model.hidden(
    params, tokens_1L, position_1L, attention.causal(config, dtype), config, dtype=dtype
  )
  x_TD = jax.lax.dynamic_slice_in_dim(x_1LD[0], first - 1, most)
  return model.logits(params, x_TD, config, dtype)


if __name__ == "__main__":
  main()
