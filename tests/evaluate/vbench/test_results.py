"""What VBench and VBench-Long write is read, and what does not add up is refused."""

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.vbench import wheel
from vpo_jax import errors
from vpo_jax.evaluate.vbench import layout, prompts, results, scores

VIDEOS = [(text, number) for text in ("alley", "amusement park") for number in range(2)]


def row(video, value, **more):
  path = f"/videos/{layout.name(*video)}"
  return {"video_path": path, "video_results": value} | more


def counted(video, success, frames=16):
  counts = {"success_frame_count": success, "frame_count": frames}
  return row(video, success / frames, **counts)


def style(video, *frames):
  more = {"frame_results": list(frames), "cur_sim": frames[-1]}
  return row(video, statistics.fmean(frames), **more)


def read(tmp_path, dimension, *entry, videos=VIDEOS):
  path = tmp_path / "results_2026-01-01-00:00:00_eval_results.json"
  path.write_text(json.dumps({dimension: entry}, indent=4))
  return results.read(path, dimension, videos)


def test_human_action_is_the_share_of_right_videos(tmp_path):
  videos = [
    (f"A person is {verb}", n) for verb in ("marching", "yawning") for n in (0, 1)
  ]
  right = [True, True, True, False]
  rows = [
    row(video, value, cor_num_per_video=int(value))
    for video, value in zip(videos, right, strict=True)
  ]
  found = read(tmp_path, "human_action", 0.75, rows, videos=videos)
  assert found.score == 0.75
  assert found.values == dict(zip(videos, [1.0, 1.0, 1.0, 0.0], strict=True))
  assert scores.by_prompt(found.values) == {
    "A person is marching": 1.0,
    "A person is yawning": 0.5,
  }
  assert scores.percent(found.score) == 75.0


def test_scene_is_the_share_of_right_frames(tmp_path):
  rows = [counted(video, n) for video, n in zip(VIDEOS, (16, 8, 0, 4), strict=True)]
  rows[0] = counted(VIDEOS[0], 10, frames=10)  # a short video counts less
  found = read(tmp_path, "scene", 22 / 58, rows)
  assert found.score == 22 / 58
  assert found.values[VIDEOS[1]] == 0.5
  with pytest.raises(errors.UserError, match=r"score 0.437500 is not .* 0.379310"):
    read(tmp_path, "scene", 28 / 64, rows)


def test_appearance_style_of_several_gpus_is_computed_again(tmp_path):
  rows = [
    style(VIDEOS[0], 0.2, 0.3, 0.4),
    style(VIDEOS[1], 0.2, 0.2, 0.2),
    style(VIDEOS[2], 0.1),
    style(VIDEOS[3], 0.3, 0.3),
  ]
  right = (0.9 + 0.6 + 0.1 + 0.6) / 9  # over all frames of all videos
  last = (0.4 + 0.2 + 0.1 + 0.3) / 4
  for written in (right, last):
    found = read(tmp_path, "appearance_style", written, rows)
    assert found.score == pytest.approx(right, abs=1e-12)
    assert found.values[VIDEOS[0]] == pytest.approx(0.3)
  with pytest.raises(errors.UserError, match=r"the one of its videos, 0\.244"):
    read(tmp_path, "appearance_style", (0.3 + 0.2 + 0.1 + 0.3) / 4, rows)


def test_imaging_quality_is_given_per_cent_of_each_video_only(tmp_path):
  rows = [row(video, 50.0 + n) for n, video in enumerate(VIDEOS)]
  found = read(tmp_path, "imaging_quality", 0.515, rows)
  assert (found.score, found.values[VIDEOS[3]]) == (0.515, 0.53)


@pytest.mark.parametrize(
  ("dimension", "more", "right"),
  [
    ("temporal_style", {}, [0.35]),
    # With one GPU over frames, with several over videos.
    ("spatial_relationship", {}, [0.35, (0.1 + 2 * 0.3 + 0.4 + 0.6) / 5]),
    ("background_consistency", {}, [(0.1 * 3 + 0.3 * 2 + 0.4 * 2 + 0.6) / 8]),
    # The file does not say how many frames each video has.
    ("subject_consistency", {}, [0.35, 0.2, 0.55]),
  ],
)
def test_the_score_follows_from_the_videos(tmp_path, dimension, more, right):
  values, frames = (0.1, 0.3, 0.4, 0.6), (1, 2, 1, 1)
  count = (3, 2, 2, 1)
  rows = [
    row(
      video,
      value,
      frame_results=[value] * number,
      video_sim=value * weight,
      cnt_per_video=weight,
    )
    for video, value, number, weight in zip(VIDEOS, values, frames, count, strict=True)
  ]
  for score in right:
    assert read(tmp_path, dimension, score, rows).score == score
  with pytest.raises(errors.UserError, match="is not the one of its videos"):
    read(tmp_path, dimension, 0.7, rows)


def test_colour_is_not_judged_where_the_object_is_not_seen(tmp_path):
  rows = [row(VIDEOS[0], 1.0), row(VIDEOS[2], 0.5)]
  found = read(tmp_path, "color", 0.75, rows)
  assert (found.score, found.unscored, len(found.values)) == (0.75, 2, 2)


ROWS = [counted(video, 8) for video in VIDEOS]
FAULTS = {
  "fewer": ([0.5, ROWS[:3]], "1 of 4 videos have no result; the first is amusement"),
  "none": ([0.5, []], "4 of 4 videos have no result"),
  "nan": ([float("nan"), ROWS], "score: nan is not a finite number"),
  "a nan": ([0.5, [*ROWS[:3], row(VIDEOS[3], float("nan"))]], "result 3: nan is not"),
  "text": (["0.5", ROWS], "'0.5' is not a finite number"),
  "twice": ([0.5, [*ROWS, ROWS[2]]], "result 4: a second one of amusement park-0"),
  "stranger": ([0.5, [*ROWS, counted(("beach", 0), 8)]], "'beach-0.mp4' is not one of"),
  "number": ([0.5, [*ROWS, counted(("alley", 2), 8)]], "'alley-2.mp4' is not one of"),
  "score": ([0.5001, ROWS], "score 0.500100 is not the one of its videos, 0.500000"),
  "frames": ([0.5, [*ROWS[:3], ROWS[3] | {"frame_count": 0}]], "8 of 0 frames"),
  "counts": (
    [0.5, [*ROWS[:3], ROWS[3] | {"frame_count": 15}]],
    "result 3: 0.5 differs",
  ),
  "no counts": ([0.5, [*ROWS[:3], row(VIDEOS[3], 0.5)]], "None is not a finite number"),
  "no path": ([0.5, [*ROWS, {"video_results": 1}]], "result 4: no video_path"),
  "no rows": ([0.5], r"not \[score, results of videos\]"),
  "no objects": ([0.5, [1, 2]], "a result is not an object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_add_up_is_refused(tmp_path, fault):
  entry, reason = FAULTS[fault]
  with pytest.raises(errors.UserError, match=reason):
    read(tmp_path, "scene", *entry)


def test_another_dimension_or_half_a_file_is_refused(tmp_path):
  path = tmp_path / "x_eval_results.json"
  text = json.dumps({"scene": [0.5, ROWS]})
  path.write_text(text)
  assert results.read(path, "scene", VIDEOS).score == 0.5
  with pytest.raises(errors.UserError, match="has no result of color"):
    results.read(path, "color", VIDEOS)
  path.write_text(text[: len(text) // 2])
  with pytest.raises(errors.UserError, match="not JSON"):
    results.read(path, "scene", VIDEOS)


# The wheel's own function, which makes all of VBench-Long's results.
REORGANIZE = """
import json, sys
from vbench2_beta_long import utils
dimension, rows = json.load(open(sys.argv[1]))
entry = utils.reorganize_clips_results(rows, dimension=dimension)
print(json.dumps({dimension: entry}))
"""


def clip(video, number, value, **more):
  stem = layout.name(*video).removesuffix(".mp4")
  path = f"/videos/split_clip/{stem}/{stem}_{number}.mp4"
  return row(video, value, **more) | {"video_path": path}


def reorganize(tmp_path, dimension, rows):
  (tmp_path / "rows.json").write_text(json.dumps([dimension, rows]))
  path = tmp_path / "long_eval_results.json"
  path.write_text(wheel.run(REORGANIZE, tmp_path / "rows.json"))
  return path


def test_vbench_longs_score_is_the_mean_over_all_clips(tmp_path):
  values = {VIDEOS[0]: (1, 0), VIDEOS[1]: (0.5,), VIDEOS[2]: (1, 1), VIDEOS[3]: (0, 0)}
  rows = [
    clip(video, f"{n:03d}", value, success_frame_count=int(16 * value), frame_count=16)
    for video, of in values.items()
    for n, value in enumerate(of)
  ]
  path = reorganize(tmp_path, "scene", rows)
  score, per_clip, per_video = json.loads(path.read_text())["scene"]
  assert (len(per_clip), len(per_video)) == (7, 7)  # that is how VBench-Long is
  found = results.read(path, "scene", VIDEOS)
  assert found.score == pytest.approx(score, abs=1e-12)
  assert found.score == pytest.approx(3.5 / 7)
  assert list(found.values.values()) == [0.5, 0.5, 1.0, 0.0]


def test_a_short_video_is_one_clip(tmp_path):
  videos = [("A person is marching", 0), ("A person is marching", 1)]
  rows = [clip(videos[0], "full", True), clip(videos[1], "full", False)]
  path = reorganize(tmp_path, "human_action", rows)
  found = results.read(path, "human_action", videos)
  assert found.values == {videos[0]: 1.0, videos[1]: 0.0}
  with pytest.raises(errors.UserError, match="1 of 3 videos have no result"):
    results.read(path, "human_action", [*videos, ("A person is marching", 2)])


def test_vbench_longs_consistency_has_one_list_with_paths_of_its_own(tmp_path):
  rows = [
    row(video, value)
    | {"video_path": f"/v/split_clip/{video[0]}/x_{n}.mp4/{layout.name(*video)}"}
    for video in VIDEOS
    for n, value in enumerate((0.9, 0.7))
  ]
  found = read(tmp_path, "subject_consistency", 0.8, rows)
  assert set(found.values.values()) == {0.8}


def test_the_leaderboards_scores_are_those_of_vbenchs_script():
  """Numbers: VBench's scripts/cal_final_score.py (45e79ec), run on these scores."""
  order = list(prompts.COUNTS)
  assert len(order) == 16
  raw = dict(zip(order, [0.95 - 0.04 * number for number in range(16)], strict=True))
  found = scores.totals(raw)
  assert found["quality"] == pytest.approx(0.73065656466285)
  assert found["semantic"] == pytest.approx(0.7847038057571971)
  assert found["total"] == pytest.approx(0.7414660128817194)
  of = scores.normalised(raw)
  assert of["scene"] == pytest.approx(0.5716370712721965)
  assert of["appearance_style"] == pytest.approx(1.5077301475755447)
  assert of["human_action"] == raw["human_action"]
  del raw["color"]
  assert scores.totals(raw) == {}


@given(st.lists(st.floats(0, 1), min_size=10, max_size=10))
def test_the_mean_over_prompts_is_the_mean_over_videos(values):
  videos = [(text, number) for text in ("a", "b") for number in range(5)]
  by_prompt = scores.by_prompt(dict(zip(videos, values, strict=True)))
  assert set(by_prompt) == {"a", "b"}
  mean = statistics.fmean(by_prompt.values())
  assert mean == pytest.approx(statistics.fmean(values))
