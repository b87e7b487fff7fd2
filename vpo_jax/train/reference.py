"""Reference log-probabilities: one pass before training, stored with a fingerprint.

Training then holds one model instead of two. A file whose fingerprint of weights, data
or tokenization differs is computed again.
"""

import hashlib
import io
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath

from vpo_jax import files
from vpo_jax.data import examples as data_examples
from vpo_jax.data import forest, packing
from vpo_jax.decoder import sharding, weights
from vpo_jax.decoder.table import Params
from vpo_jax.runtime import console, processes, watchdog
from vpo_jax.train import packing_check
from vpo_jax.train import policy as policies


def logps(
  path: epath.Path,
  examples: Sequence[data_examples.Example],
  params: Params,
  policy: policies.Policy,
  placement: sharding.Placement,
  *,
  batch_size: int,
  budget: int,
  check_packing: bool,
  hang_minutes: float,
) -> tuple[forest.TokenValues, float | None]:
  """Log-probability of each token of each response of each example, in nats.

  With them comes what the packing check found when they were computed, in nats; None if
  it was switched off.

  Args:
    path: the .npz file; it is read if its fingerprint matches, and written otherwise.
    batch_size: number of examples that are packed together.
    budget: the most row tokens of one group in one micro-batch.
    check_packing: whether to compare the first micro-batch with plain rows.
    hang_minutes: the watchdog's patience (`watchdog.Watch`).

  Raises:
    UserError: the packed forest and plain rows differ.
  """
  fingerprint = _fingerprint(examples, params, policy)
  processes.barrier("reference")  # so that either all processes find the file or none
  if path.exists():
    with path.open("rb") as file, np.load(io.BytesIO(file.read())) as stored:
      if str(stored["fingerprint"]) == fingerprint:
        difference = float(stored["difference"])
        known = None if np.isnan(difference) else difference
        return _split(stored["logps"], examples), known
  plan = _plan(examples, policy, placement, batch_size, budget)
  difference = None
  if check_packing:
    batch = packing_check.first_micro_batch(examples, plan, placement)
    difference = packing_check.reference(policy, params, *batch).logp
  result = _compute(examples, plan, params, policy, placement, hang_minutes)
  if processes.first():
    flat = np.concatenate([values for row in result for values in row])
    with files.publish(path, "wb") as file:
      stored = np.nan if difference is None else difference
      np.savez(file, logps=flat, fingerprint=fingerprint, difference=stored)
  return result, difference


def _split(flat, examples) -> forest.TokenValues:
  """The values of each response, of all values in a row."""
  lengths = [len(response) for example in examples for response in example.responses]
  parts = iter(np.split(flat, np.cumsum(lengths)[:-1]))
  return [[next(parts) for _ in example.responses] for example in examples]


def _fingerprint(examples, params, policy) -> str:
  digest = hashlib.sha256(b"tokens " + weights.fingerprint(params).encode())
  digest.update(policy.precision.encode())
  for example in examples:
    for tokens in (example.prompt, *example.responses):
      digest.update(len(tokens).to_bytes(4, "big") + tokens.tobytes())
  return digest.hexdigest()


def _plan(examples, policy, placement, batch_size, budget) -> packing.Plan:
  indices = list(range(len(examples)))
  batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
  return packing.plan(
    examples,
    batches,
    groups=sharding.groups(placement.mesh),
    budget=budget,
    flops_per_token=policy.config.flops_per_token,
  )


def _compute(examples, plan, params, policy, placement, hang_minutes):
  result = zeros(examples)
  with (
    watchdog.watched(hang_minutes) as watch,
    console.progress("reference", len(examples)) as advance,
  ):
    for step, micros in enumerate(plan.steps):
      watch.step("batch of the reference pass", step + 1)
      fill(result, examples, plan, step, params, policy, placement)
      advance(sum(len(indices) for m in micros for rows in m for indices in rows), "")
  return result


_logps = jax.jit(policies.Policy.token_logps, static_argnums=(0, 3))


def zeros(examples: Sequence[data_examples.Example]) -> list[list[np.ndarray]]:
  """A 0 for each token of each response of each example."""
  return [[np.zeros(len(r), np.float32) for r in e.responses] for e in examples]


def fill(
  result: list[list[np.ndarray]],
  examples: Sequence[data_examples.Example],
  plan: packing.Plan,
  step: int,
  params: Params,
  policy: policies.Policy,
  placement: sharding.Placement,
) -> None:
  """Writes the log-probabilities of one step's examples into `result`."""
  shape = plan.shapes[step]
  for micro in plan.steps[step]:
    own = forest.build(examples, shape, micro, groups=placement.own_groups)
    batch = placement.shard_groups(own)
    values_GP = sharding.to_host(_logps(policy, params, batch, shape))
    for group, rows in enumerate(micro):
      for index, branch, span in forest.predicted(examples, rows):
        result[index][branch] = values_GP[group, span]
