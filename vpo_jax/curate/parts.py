"""Stage parts: the queries of each round, and those that all rounds are measured on."""

from vpo_jax import errors, queries, records, stages


def run(work: stages.Work) -> stages.Counts:
  """Writes heldout.jsonl, and 1.jsonl to n.jsonl for n rounds.

  With `config.fresh` each round has its own queries; otherwise all have the same.

  Raises:
    UserError: a number is out of range, or there are too few queries.
  """
  config = work.config
  for key in ("count", "heldout"):
    if config[key] < 1:
      raise errors.UserError(f"config.{key}={config[key]}: must be at least 1")
  found, _ = queries.load(work.inputs["queries"])
  least = config.heldout + (config.count if config.fresh else 1)
  if len(found) < least:
    raise errors.UserError(
      f"{work.inputs['queries']}: {len(found)} queries; {config.count} rounds with"
      f" {config.heldout} held-out queries need at least {least}"
    )
  found.sort(key=lambda query: records.row_id(config.seed, query.id))
  heldout, rest = found[: config.heldout], found[config.heldout :]
  records.write(work.folder / "heldout.jsonl", heldout)
  parts = [
    rest[k :: config.count] if config.fresh else rest for k in range(config.count)
  ]
  for number, part in enumerate(parts, start=1):
    records.write(work.folder / f"{number}.jsonl", part)
  return {
    "heldout": len(heldout),
    "queries_of_a_round": len(parts[-1]),
    "rounds": len(parts),
  }


STAGE = stages.Stage(
  name="parts",
  run=run,
  inputs=(stages.Input("queries", "curate/dpo.jsonl"),),
)
