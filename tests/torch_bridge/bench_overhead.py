"""Measures what the bridge adds to a video that takes its renderer one second.

    python tests/torch_bridge/bench_overhead.py [videos] [width height frames]

Renders and scores videos in a real worker process: shards, heartbeats, encoding,
reading back, hashing, publishing, and decoding for the scorer. The renderer sleeps and
the scorer takes almost no time. The time per video is the time between published files,
so it excludes start-up. It is wall time: run the program on an idle machine.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

from configs import score_videos
from vpo_jax.feedback import bridge


def between(paths):
  """Mean time in seconds from one file to the next."""
  times = sorted(path.stat().st_mtime for path in paths)
  return (times[-1] - times[0]) / (len(times) - 1)


def main(videos=40, width=48, height=48, frames=9):
  os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).parent)
  config = score_videos.get_config()
  config.renderer.name, config.renderer.model = "paced", "paced"
  config.renderer.settings.update(width=width, height=height, num_frames=frames, fps=8)
  config.scorer.name = "named"
  config.bridge.workers = 1
  requests = [
    bridge.Request(f"a scene, number {i}", 0, "a query") for i in range(videos)
  ]
  with tempfile.TemporaryDirectory() as folder:
    began = time.monotonic()
    store = pathlib.Path(folder) / "store"
    results = bridge.Bridge(config, folder, store).render_and_score(requests)
    wall = time.monotonic() - began
    assert all(result.answers for result in results)
    # The second of sleep, and a few milliseconds more on a busy machine.
    spent = statistics.fmean(result.video.work_seconds for result in results)
    render = between(store.glob("videos/*/*.json")) - spent
    score = between(store.glob("answers/*/*.json"))
  each = spent + render + score
  print(
    f"{videos} videos of {width}x{height}, {frames} frames: the bridge adds"
    f" {render * 1e3:.1f} ms to render and {score * 1e3:.1f} ms to score each,"
    f" {(render + score) / each:.2%} of {each:.3f} s; start-up"
    f" {wall - videos * each:.1f} s"
  )


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
