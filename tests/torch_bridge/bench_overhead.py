"""What the bridge adds to a video that takes its renderer a second.

    python tests/torch_bridge/bench_overhead.py [videos] [width height frames]

Renders and scores videos by a real worker process, from shards, heartbeats, encoding,
reading back, hashing and publishing to decoding for the scorer. The renderer sleeps,
and the scorer takes next to nothing. Without a size the videos are those of the tiny
pipeline. What a video takes is read off the times at which files were published, so
start-up, which is paid once, is apart. Wall time: run it on a quiet machine.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

from configs import video_pairs
from vpo_jax.feedback import bridge


def between(paths):
  """Seconds from one file to the next, on average."""
  times = sorted(path.stat().st_mtime for path in paths)
  return (times[-1] - times[0]) / (len(times) - 1)


def main(videos=40, width=48, height=48, frames=9):
  os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).parent)
  config = video_pairs.get_config()
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
    # Asleep for a second and, on a busy machine, some milliseconds more.
    spent = statistics.fmean(result.video.work_seconds for result in results)
    render = between(store.glob("videos/*/*.json")) - spent
    score = between(store.glob("answers/*/*.json"))
  each = spent + render + score
  print(
    f"{videos} videos of {width}x{height}, {frames} frames: {render * 1e3:.1f} ms of"
    f" the bridge's own a video to render, {score * 1e3:.1f} to score:"
    f" {(render + score) / each:.2%} of {each:.3f} s; start-up"
    f" {wall - videos * each:.1f} s"
  )


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
