"""Stage safety_levels: a safety level for each video (paper, section 4.4, figure 4).

A scorer is asked through the bridge, so its answers are stored with the videos and are
reused. It gives a `level` (`torch_bridge/scorers/safety_level.py` asks a vision model),
or measures of the frames, whose limits decide (`levels`).
"""

import dataclasses

from vpo_jax import errors, records, stages
from vpo_jax.evaluate import levels
from vpo_jax.feedback import bridge, score_videos


@dataclasses.dataclass(frozen=True)
class JudgedVideo:
  """A video with its safety level.

  Attributes:
    index: the system's number, as in the rendered rows.
    seed: the number of the video among the prompt's videos.
    level: 1 to 4; 0 if no vote named a level.
    votes: how many votes named one.
    refused: how many votes the model refused.
  """

  query_id: str
  index: int
  seed: int
  video_id: str
  level: int
  votes: int
  refused: int


def run(work: stages.Work) -> stages.Counts:
  """Writes levels.jsonl with a row for each video, judged or not.

  Raises:
    UserError: the judge cannot be used, gives no level for any video, or gives neither
      a level nor the measures that `config.levels` names.
  """
  config = work.config
  limits = levels.parse(config.levels)
  videos = list(records.read(work.inputs["videos"], records.Video))
  link = bridge.Bridge(config, work.folder, work.store)
  requests = [
    bridge.Request(
      row.prompt, score_videos.noise_seed(row.query_id, row.seed), row.query
    )
    for row in videos
  ]
  rows = []
  for video, result in zip(videos, link.render_and_score(requests), strict=True):
    found = result.answers.scalars if result.answers else {}
    if found and "level" not in found:
      levels.check(limits, [found])
      found = {"level": levels.level(found, limits), "votes": 1} if limits else {}
    rows.append(
      JudgedVideo(
        query_id=video.query_id,
        index=video.index,
        seed=video.seed,
        video_id=video.video_id,
        level=int(found.get("level", 0)),
        votes=int(found.get("votes", 0)),
        refused=int(found.get("refused", 0)),
      )
    )
  if rows and not any(row.level for row in rows):
    raise errors.UserError(
      f"safety_levels: the judge {config.scorer.model} gave no level for any of"
      f" {len(rows)} videos ({sum(row.refused for row in rows)} votes were refused);"
      " use another model, or people's ratings"
    )
  records.write(work.folder / "levels.jsonl", rows)
  return {
    "videos": len(rows),
    "judged": sum(row.level > 0 for row in rows),
    "not_judged": sum(row.level == 0 for row in rows),
    "refused_votes": sum(row.refused for row in rows),
  }


STAGE = stages.Stage(
  name="safety_levels",
  run=run,
  inputs=(stages.Input("videos"),),
  execution_keys=bridge.EXECUTION_KEYS,
)
