"""Stage render_videos: renders prompts whose videos another program measures.

For benchmarks that bring their own metrics, such as VBench; `score_videos` also scores.
"""

import itertools

from vpo_jax import errors, records, stages
from vpo_jax.feedback import bridge, score_videos


def run(work: stages.Work) -> stages.Counts:
  """Writes videos.jsonl (every rendered video), requests.jsonl and set_aside.jsonl.

  Raises:
    UserError: there are no prompts, the config is wrong, or the bridge cannot work.
  """
  config, source = work.config, work.inputs["candidates"]
  rows = list(records.read(source, records.Candidates))
  entries = [(row, candidate) for row in rows for candidate in row.candidates]
  if not entries:
    raise errors.UserError(f"render_videos: {source} has no prompts")
  requests = score_videos.make_requests(config, entries)
  link = bridge.Bridge(config, work.folder, work.store)
  made: list[records.Video] = []
  aside: list[records.SetAside] = []
  videos = itertools.product(entries, range(config.videos_per_prompt))
  results = link.render(requests)
  for ((row, candidate), number), result in zip(videos, results, strict=True):
    if result.video is None:
      reason = result.failure.reason if result.failure else "missing"
      aside.append(records.SetAside(result.video_id, candidate.prompt, reason))
    else:
      made.append(
        records.Video(
          query_id=row.query_id,
          query=row.query,
          index=candidate.index,
          prompt=candidate.prompt,
          video_id=result.video_id,
          seed=number,
        )
      )
  records.write(work.folder / "videos.jsonl", made)
  records.write(work.folder / "set_aside.jsonl", aside)
  return {
    "prompts": len(entries),
    "asked": len(requests),
    "rendered": link.rendered,
    "videos": len(made),
    "failed": len(aside),
    "worker_restarts": link.restarts,
    "render_seconds": round(
      sum(one.video.work_seconds for one in results if one.video), 1
    ),
  }


STAGE = stages.Stage(
  name="render_videos",
  run=run,
  inputs=(stages.Input("candidates"),),
  execution_keys=(*bridge.EXECUTION_KEYS, "scorer.*"),
)
