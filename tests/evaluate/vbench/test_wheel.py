"""VBench's own programs score our videos in the one dimension without a model.

The wheel's code runs as it is, on real videos; what it needs for reading and writing
them is in `stubs`, by PyAV.
"""

import json
import shutil

import av
import ml_collections
import numpy as np
import pytest

from configs import vbench as vbench_config
from tests.evaluate.vbench import wheel
from vpo_jax.evaluate.vbench import installation, layout, prompts, run

FLICKERING = prompts.read(wheel.INFO, ("temporal_flickering",), limit=2)
FPS, FRAMES = 8, 36  # VBench-Long: two clips of 2 s, and a third that overlaps


def brightness(video):
  """The frames' brightness: the n-th video changes by 20 n from frame to frame."""
  number = layout.expected(FLICKERING, 5).index(video)
  return [100 + 10 * number * (-1) ** frame for frame in range(FRAMES)]


def score(levels):
  """Temporal flickering as VBench defines it, of grey frames."""
  return 1 - np.mean(np.abs(np.diff(levels))) / 255


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rendered")
  paths = {}
  for video in layout.expected(FLICKERING, 5):
    paths[video] = folder / f"{len(paths)}.mp4"
    with av.open(str(paths[video]), "w") as file:
      stream = file.add_stream("libx264rgb", rate=FPS, options={"crf": "0"})
      stream.height, stream.width, stream.pix_fmt = 16, 16, "rgb24"
      for level in brightness(video):
        frame = np.full((16, 16, 3), level, np.uint8)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
      file.mux(stream.encode())
  return layout.lay_out(paths, folder / "named")


@pytest.fixture
def config(tmp_path):
  config = ml_collections.ConfigDict()
  vbench_config.add(config)
  config.vbench.python = wheel.interpreter(tmp_path / "python", wheel.HERE / "stubs")
  return config.vbench


def test_vbench_scores_the_videos(config, videos, tmp_path):
  config.gpus = 0
  vbench = installation.find(config)
  (found,) = run.evaluate(vbench, videos, FLICKERING, 5, tmp_path / "out").values()
  assert list(found.values) == layout.expected(FLICKERING, 5)
  for video, value in found.values.items():
    assert value == pytest.approx(score(brightness(video)), abs=1e-6)


@pytest.fixture
def checkout(tmp_path):
  """A clone of VBench: the wheel's code, with the files that only a clone has."""
  for name in ("vbench", "vbench2_beta_long"):
    shutil.copytree(wheel.folder(name), tmp_path / "VBench" / name)
  configs = tmp_path / "VBench" / "vbench2_beta_long" / "configs"
  configs.mkdir()
  seconds = dict.fromkeys(prompts.COUNTS, 2.0)
  (configs / "clip_length_mix.yaml").write_text(json.dumps(seconds))
  return tmp_path / "VBench"


# File systems list a folder in any order; on a tmpfs the newest entry comes first: the
# folder of VBench-Long's clips.
ORDER = """
import os

listdir = os.listdir
os.listdir = lambda path=".": sorted(
  listdir(path), key=lambda name: not os.path.isdir(os.path.join(path, name))
)
"""


def test_vbench_long_scores_the_videos_clips(config, videos, checkout, tmp_path):
  (tmp_path / "order").mkdir()
  (tmp_path / "order" / "sitecustomize.py").write_text(ORDER)
  packages = wheel.HERE / "stubs", tmp_path / "order"
  config.python = wheel.interpreter(tmp_path / "python", *packages)
  config.update(checkout=str(checkout), mode="long")
  before = sorted(path.name for path in videos.iterdir())
  vbench = installation.find(config)
  (found,) = run.evaluate(vbench, videos, FLICKERING, 5, tmp_path / "out").values()
  (path,) = (tmp_path / "out").rglob("*_eval_results.json")
  written, per_clip, per_video = json.loads(path.read_text())["temporal_flickering"]
  assert len(per_clip) == len(per_video) == 3 * 10
  assert found.score == written
  assert list(found.values) == layout.expected(FLICKERING, 5)
  for video, value in found.values.items():
    assert value == pytest.approx(score(brightness(video)), abs=1e-2)  # re-encoded
  # The folder of the videos stays as it was, and no copy is left.
  assert sorted(path.name for path in videos.iterdir()) == before
  assert not list((tmp_path / "out").rglob("*.mp4"))
