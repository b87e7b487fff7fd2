"""Stage groups: all candidates of a query with everything that is known of them.

Where the paper makes one pair per query of what was rendered, training on groups
(`train_groups`) uses every candidate. Nothing is judged or rendered anew.
"""

from collections.abc import Mapping

from vpo_jax import errors, files, records, stages, templates
from vpo_jax.data import heldout as heldout_lib
from vpo_jax.feedback import pairing


def run(work: stages.Work) -> stages.Counts:
  """Writes groups.jsonl, and its parts train.jsonl and heldout.jsonl.

  Queries with fewer than two different candidates are left out.

  Raises:
    UserError: `config.heldout` is out of range, an input cannot be read, or no group is
      left.
  """
  config = work.config
  if not 0 <= config.heldout < 1:
    raise errors.UserError(f"config.heldout={config.heldout}: must be in [0, 1)")
  judged, scored = {}, {}
  if "judged" in work.inputs:
    rows = records.read(work.inputs["judged"], records.Judged)
    judged = {(row.query_id, row.index): row for row in rows}
  if "scores" in work.inputs:
    rows = pairing.mean_over_seeds(
      [*records.read(work.inputs["scores"], records.Scored)]
    )
    scored = {(row.query_id, row.index): row for row in rows}
  candidates = records.read(work.inputs["candidates"], records.Candidates)
  every = [group(row, judged, scored) for row in candidates]
  groups = [one for one in every if len(one.responses) > 1]
  if not groups:
    raise errors.UserError(
      f"groups: no query in {work.inputs['candidates']} has two different candidates"
    )
  train, heldout = heldout_lib.split(
    groups, config.heldout, config.seed, lambda one: one.query
  )
  for name, part in (("groups", groups), ("train", train), ("heldout", heldout)):
    records.write(work.folder / f"{name}.jsonl", part)
  text = templates.load("instruction", work.inputs.get("instruction", ""))
  files.write_text(work.folder / templates.INSTRUCTION, text)
  responses = [response for one in groups for response in one.responses]
  return {
    "groups": len(groups),
    "left_out": len(every) - len(groups),
    "responses": len(responses),
    "flawed": sum(response.passed is False for response in responses),
    "with_reward": sum(response.reward is not None for response in responses),
    "train": len(train),
    "heldout": len(heldout),
  }


def group(
  row: records.Candidates,
  judged: Mapping[tuple[str, int], records.Judged],
  scored: Mapping[tuple[str, int], records.Scored],
) -> records.Group:
  """The group of one query.

  Args:
    judged, scored: by query id and candidate index; a candidate may be missing.
  """
  responses: dict[str, records.Response] = {}
  for candidate in row.candidates:
    key = row.query_id, candidate.index
    verdict, score = judged.get(key), scored.get(key)
    response = records.Response(
      index=candidate.index,
      prompt=candidate.prompt,
      passed=verdict.passed if verdict else None,
      refined=verdict.refined if verdict else None,
      reward=score.reward if score else None,
      groups=score.groups if score else {},
      scalars=score.scalars if score else {},
    )
    responses.setdefault(candidate.prompt, response)
  return records.Group(
    row.query_id, row.query, row.category, row.model, tuple(responses.values())
  )


STAGE = stages.Stage(
  name="groups",
  run=run,
  inputs=(
    stages.Input("candidates", "sample/candidates.jsonl"),
    stages.Input("judged", "text_pairs/judged.jsonl", optional=True),
    stages.Input("scores", "score_videos/scores.jsonl", optional=True),
    stages.Input("instruction", "sample/instruction.txt", optional=True),
  ),
  cheap=True,
)
