"""What the bridge adds to a video that takes its renderer a second.

    python tests/torch_bridge/bench_overhead.py [videos] [width height frames]

Renders and scores a few videos and then `videos` more with one worker, by real worker
processes; start-up is what both runs have, so the difference is the cost of a video:
shards, heartbeats, encoding, reading back, hashing, publishing, decoding for the
scorer. The renderer sleeps, and the scorer takes next to nothing. Without a size the
videos are those of the tiny pipeline. Wall time: run it on a quiet machine.
"""

import os
import pathlib
import sys
import tempfile
import time

import paced

from configs import video_pairs
from vpo_jax.feedback import bridge

FEW = 5


def seconds(config, videos, folder):
  asks = [bridge.Ask(f"a scene, number {i}", 0, "a query") for i in range(videos)]
  began = time.monotonic()
  results = bridge.Bridge(config, folder).run(asks)
  assert all(result.answers for result in results)
  return time.monotonic() - began


def main(videos=40, width=48, height=48, frames=9):
  os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).parent)
  config = video_pairs.get_config()
  config.renderer.name, config.renderer.model = "paced", "paced"
  config.renderer.settings.update(width=width, height=height, num_frames=frames)
  config.scorer.name = "named"
  config.bridge.workers = 1
  with tempfile.TemporaryDirectory() as folder:
    few = seconds(config, FEW, pathlib.Path(folder) / "few")
    many = seconds(config, FEW + videos, pathlib.Path(folder) / "many")
  each = (many - few) / videos
  print(
    f"{videos} videos of {width}x{height}, {frames} frames: {each:.4f} s each, of which"
    f" {(each - paced.SECOND) * 1e3:.1f} ms are the bridge's"
    f" ({(each - paced.SECOND) / each:.2%}); start-up {few - FEW * each:.1f} s"
  )


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
