import numpy as np
import pytest

from torch_bridge import video

ENCODING = {"codec": "libx264", "crf": 17}


def _frames(count=9, side=32):
  rows, columns = np.mgrid[:side, :side] / side
  steps = np.arange(count)[:, None, None] / count
  planes = [np.broadcast_to(x, (count, side, side)) for x in (rows, columns)]
  moving = (rows + steps) % 1
  return np.stack([*planes, moving], axis=-1).astype(np.float32)


def test_frames_and_frame_rate_survive_a_round_trip(tmp_path):
  frames = video.check_frames(_frames(), 9)
  video.write(tmp_path / "a.mp4", frames, 8, ENCODING)
  back, fps = video.read(tmp_path / "a.mp4")
  assert fps == 8
  assert back.shape == frames.shape
  assert np.abs(back.astype(int) - frames).mean() < 8


def test_bytes_do_not_depend_on_the_frames_memory_alignment(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
  written, allocated = set(), []
  for offset in range(40):
    allocated.append(np.empty(1000 * offset + 7, np.uint8))  # shifts later allocations
    frames = np.frombuffer(bytes(offset) + noise.tobytes(), np.uint8)[offset:]
    video.write(tmp_path / "a.mp4", frames.reshape(noise.shape), 8, ENCODING)
    written.add((tmp_path / "a.mp4").read_bytes())
  assert len(written) == 1


def _with_nan():
  frames = _frames()
  frames[3, 2, 2, 1] = np.nan
  return frames


@pytest.mark.parametrize(
  ("frames", "reason"),
  [
    (_frames(8), "short: 8 frames of 9"),
    (_frames() * 0.01, "black"),
    (np.full((9, 32, 32, 3), 0.5), "constant"),
    (_with_nan(), "NaN"),
    (_frames()[..., :2], "shape"),
  ],
)
def test_bad_frames_are_refused(frames, reason):
  with pytest.raises(video.BadVideo, match=reason):
    video.check_frames(frames, 9)


def test_a_still_picture_is_accepted():
  """Judging a lack of motion is the scorer's task."""
  still = np.repeat(_frames()[:1], 9, axis=0)
  assert len(video.check_frames(still, 9)) == 9


def test_a_truncated_file_is_refused(tmp_path):
  path = tmp_path / "a.mp4"
  video.write(path, video.check_frames(_frames(), 9), 8, ENCODING)
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(video.BadVideo, match=r"a\.mp4"):
    video.read(path)
