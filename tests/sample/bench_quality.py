r"""What a precision does to the texts: their log-probability to the float32 model.

    python tests/sample/bench_quality.py --precision=bfloat16 --queries=64

Two sets of drawn texts differ by chance far more than by rounding, so the texts are
drawn once, in float32, and weighted by how much more often the other precision draws
them: the product of its probabilities over float32's. That is the mean over texts of
its own, without their noise. The error is a jackknife's over queries. The last line is
JSON; log-probabilities are nats a token, at temperature 1.
"""

import argparse
import json
from typing import Any

import jax
import numpy as np

from vpo_jax import queries
from vpo_jax.llama import attention, model, product, source
from vpo_jax.sample import policy as policies
from vpo_jax.sample import schedule, settings


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default=source.SMOLLM2)
  parser.add_argument("--precision", default="bfloat16")
  parser.add_argument("--queries", type=int, default=64)
  parser.add_argument("--num_candidates", type=int, default=4)
  parser.add_argument("--max_new_tokens", type=int, default=64)
  args = parser.parse_args()
  source.keep_compiled()
  exact = policies.load(args.model)
  rounded = policies.load(args.model, precision=args.precision)
  texts = [row.asked for row in queries.load(queries.SHIPPED)[0]][: args.queries]
  wanted = settings.Settings(
    num_candidates=args.num_candidates, max_new_tokens=args.max_new_tokens
  )
  scheduler = schedule.Scheduler(exact, slots=32)
  rows = [scheduler.add(text, exact.prompt(text), wanted) for text in texts]
  while scheduler.step():
    pass
  # Of each text: tokens, log-probability, and its logarithm of the weight.
  scores_QK3 = np.array([[score(exact, rounded, job) for job in row] for row in rows])
  change = changed(scores_QK3)
  without = [changed(np.delete(scores_QK3, q, axis=0)) for q in range(len(rows))]
  error = np.sqrt((len(rows) - 1) * np.var(without))
  tokens, logp, weight = scores_QK3.reshape(-1, 3).sum(axis=0)
  result = {
    "tokens": int(tokens),
    "mean_logp": round(logp / tokens, 4),
    "change_percent": round(100 * change, 3),
    "error_percent": round(100 * error, 3),
    "divergence_per_token": round(-weight / tokens, 6),
  }
  print(json.dumps({"precision": args.precision, **result}))


def changed(scores_QK3: np.ndarray) -> float:
  """The change of the mean log-probability, relative to its size; below 0 is worse."""
  tokens, logp, weight = scores_QK3.reshape(-1, 3).T
  weight = np.exp(weight)
  before = logp.sum() / tokens.sum()
  after = (weight * logp).sum() / (weight * tokens).sum()
  return (after - before) / abs(before)


def score(exact: policies.Policy, rounded: policies.Policy, job: Any) -> list[float]:
  cold = job.settings.temperature
  ours, theirs = (
    logps(policy, job.prompt.tokens, job.tokens, job.limit, cold)
    for policy in (exact, rounded)
  )
  return [len(job.tokens), ours[:, 0].sum(), (theirs - ours)[:, 1].sum()]


def logps(policy, prompt, drawn, most: int, temperature: float) -> np.ndarray:
  """log p of each drawn token, in nats, at temperature 1 and at the one it had."""
  row = [*prompt, *drawn]
  tokens = np.zeros((1, -(-(len(prompt) + most) // 64) * 64), np.int32)  # few shapes
  tokens[0, : len(row)] = row
  first, dtype = len(prompt), policy.dtype
  both = forward(
    policy.params, tokens, first, temperature, most, config=policy.config, dtype=dtype
  )
  return np.asarray(both, np.float64)[: len(drawn)]


@jax.jit(static_argnames=("most", "config", "dtype"))
def forward(params, tokens_1L, first, temperature, most, config, dtype):
  place_1L = np.arange(tokens_1L.shape[1], dtype=np.int32)[None]
  x_1LD, _ = model.hidden(
    params, tokens_1L, place_1L, attention.causal(dtype), config, dtype=dtype
  )
  x_TD = jax.lax.dynamic_slice_in_dim(x_1LD[0], first - 1, most)
  drawn_T = jax.lax.dynamic_slice_in_dim(tokens_1L[0], first, most)
  logits_TV = product.product(x_TD, model.head(params), np.dtype(dtype))
  both = [jax.nn.log_softmax(logits_TV / t) for t in (1.0, temperature)]
  both = [jax.numpy.take_along_axis(x, drawn_T[:, None], 1)[:, 0] for x in both]
  return jax.numpy.stack(both, axis=1)


if __name__ == "__main__":
  main()
