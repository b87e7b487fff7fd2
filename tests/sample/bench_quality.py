r"""What a precision does to the texts: their log-probability to the float32 model.

    python tests/sample/bench_quality.py --precisions=float32,bfloat16

Samples the same queries with the same noise in each precision and scores every text,
whoever drew it, with the float32 model's full forward pass. The last line is JSON.
"""

import argparse
import json
import sys

import jax
import numpy as np

from vpo_jax import queries
from vpo_jax.llama import attention, model, product, source
from vpo_jax.sample import policy as policies
from vpo_jax.sample import schedule, settings


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default=source.SMOLLM2)
  parser.add_argument("--precisions", default="float32,bfloat16")
  parser.add_argument("--queries", type=int, default=32)
  parser.add_argument("--num_candidates", type=int, default=4)
  parser.add_argument("--max_new_tokens", type=int, default=64)
  args = parser.parse_args()
  source.keep_compiled()
  exact = policies.load(args.model)
  texts = [row.asked for row in queries.load(queries.SHIPPED)[0]][: args.queries]
  wanted = settings.Settings(
    num_candidates=args.num_candidates, max_new_tokens=args.max_new_tokens
  )
  result = {}
  for precision in args.precisions.split(","):
    policy = policies.load(args.model, precision=precision)
    scheduler = schedule.Scheduler(policy, slots=32)
    jobs = []
    for number, text in enumerate(texts):
      jobs += scheduler.add(number, policy.prompt(text), wanted)
    while scheduler.step():
      pass
    logps = np.concatenate(
      [score(exact, job.prompt.tokens, job.tokens) for job in jobs]
    )
    result[precision] = {
      "tokens": len(logps),
      "mean_logp": round(float(logps.mean()), 4),
    }
    print(precision, result[precision], file=sys.stderr)
  print(json.dumps(result))


def score(policy, prompt, drawn) -> np.ndarray:
  """log p of each drawn token, in nats, at temperature 1."""
  row = [*prompt, *drawn]
  length = -(-len(row) // 128) * 128  # few shapes
  tokens = np.zeros((1, length), np.int32)
  tokens[0, : len(row)] = row
  logps = forward(policy.params, tokens, config=policy.config)
  return np.asarray(logps)[len(prompt) - 1 : len(row) - 1]


@jax.jit(static_argnames="config")
def forward(params, tokens_1L, config):
  place_1L = np.arange(tokens_1L.shape[1], dtype=np.int32)[None]
  x, _ = model.hidden(params, tokens_1L, place_1L, attention.causal(), config)
  logits_LV = product.product(x[0], model.head(params), np.dtype("float32"))
  logps_LV = jax.nn.log_softmax(logits_LV)
  return jax.numpy.take_along_axis(logps_LV[:-1], tokens_1L[0, 1:, None], 1)[:, 0]


if __name__ == "__main__":
  main()
