"""Videos have the names by which VBench's own code finds them."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.vbench import wheel
from torch_bridge import contract
from vpo_jax import errors, records
from vpo_jax.evaluate.vbench import layout, prompts


def test_a_text_of_vbench_is_its_files_name():
  text = 'a person is "air drumming", it\'s 4k: a dog & a cat?'
  assert layout.name(text, 3) == f"{text}-3.mp4"


NASTY = ["../../etc/passwd", "..", "", ".", "a/b", "a\\b", "a\nb", "a\x00b", "猫" * 200]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_no_text_leads_out_of_the_folder_or_beyond_its_limits(tmp_path, text):
  name = layout.name(text, 0)
  path = tmp_path / name
  path.write_bytes(b"")
  assert [file.name for file in tmp_path.iterdir()] == [name]
  assert path.resolve().parent == tmp_path.resolve()
  assert not name.startswith(".")


@given(st.text(), st.text())
def test_two_texts_never_share_a_name(one, other):
  name = layout.name(one, 0)
  assert len(name.encode()) <= 255
  assert pathlib.PurePath(name).name == name
  assert (name == layout.name(other, 0)) == (one == other)


def _scored(query, index, seed, video):
  return records.Scored(
    query, query, index, "p", video, seed, 0.0, 0.0, {}, (True,), {}
  )


def test_the_first_candidates_videos_are_laid_out(tmp_path):
  store = contract.Store(tmp_path / "store")
  rows = []
  for query in ("a cat", "../a dog"):
    for index in (1, 0):
      for seed in (0, 1):
        video = contract.content_id(query, index, seed)
        path = store.video(video)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{query} {index} {seed}".encode())
        made = str(path.relative_to(store.root)), contract.sha256(path)
        contract.publish_row(
          store.rendered(video),
          contract.RenderedVideo(video, *made, 9, 8, 4, 4, 1.0, 0, {}, {}, 0.1),
        )
        rows.append(_scored(query, index, seed, video))
  records.write(tmp_path / "scores.jsonl", rows)
  for _ in range(2):  # a second time it is the same
    videos = layout.scored(tmp_path / "scores.jsonl", store.root)
    layout.lay_out(videos, tmp_path / "out")
    found = {p.name: p.read_text() for p in (tmp_path / "out").iterdir()}
    assert found["a cat-1.mp4"] == "a cat 0 1"
    assert sorted(found.values()) == [
      f"{q} 0 {s}" for q in ("../a dog", "a cat") for s in (0, 1)
    ]
  second = layout.scored(tmp_path / "scores.jsonl", store.root, index=1)
  assert second["a cat", 1].read_text() == "a cat 1 1"
  store.video(rows[2].video_id).write_bytes(b"cut")
  with pytest.raises(errors.UserError, match=f"video {rows[2].video_id}"):
    layout.scored(tmp_path / "scores.jsonl", store.root)
  records.write(tmp_path / "scores.jsonl", [])
  with pytest.raises(errors.UserError, match="no video was scored"):
    layout.scored(tmp_path / "scores.jsonl", store.root)


ALL = prompts.read(wheel.INFO, tuple(prompts.COUNTS))

# Runs the wheel's own search for videos, of all dimensions at once.
FIND = """
import sys
import vbench

program = vbench.VBench("cpu", sys.argv[1], sys.argv[3])
dimensions = program.build_full_dimension_list()
program.build_full_info_json(sys.argv[2], "all", dimensions)
"""


def test_a_prompt_of_vbench_is_its_files_name():
  for prompt in ALL:
    name = layout.name(prompt.text, 4)
    assert name == f"{prompt.text}-4.mp4"
    clip = name.replace(".mp4", "_full.mp4")  # of VBench-Long
    assert max(len(name.encode()), len(clip.encode())) <= 255
  assert max(len(prompt.text.encode()) for prompt in ALL) == 210


def test_vbench_finds_five_videos_of_each_of_its_946_prompts(tmp_path):
  source = tmp_path / "video"
  source.write_bytes(b"a video")
  videos = dict.fromkeys(layout.expected(ALL, 5), source)
  folder = layout.lay_out(videos, tmp_path / "videos")
  printed = wheel.run(FIND, wheel.INFO, folder, tmp_path / "out")
  assert "WARNING" not in printed
  rows = json.loads((tmp_path / "out" / "all_full_info.json").read_text())
  assert len(rows) == 946
  assert {len(row["video_list"]) for row in rows} == {5}
  assert all(pathlib.Path(p).is_file() for row in rows for p in row["video_list"])


def test_vbench_finds_nothing_beside_a_stray_file_so_that_it_is_refused(tmp_path):
  source = tmp_path / "video"
  source.write_bytes(b"a video")
  prompt = prompts.read(wheel.INFO, ("scene",), limit=1)
  videos = dict.fromkeys(layout.expected(prompt, 5), source)
  folder = layout.lay_out(videos, tmp_path / "videos")
  for stray in (".DS_Store", "split_clip", "a dog-0.mp4"):
    (folder / stray).mkdir()
    with pytest.raises(errors.UserError, match=f"holds '{stray}'.*1 such"):
      layout.lay_out(videos, folder)
    (folder / stray).rmdir()
  layout.lay_out(videos, folder)


def test_missing_videos_are_counted_by_dimension():
  chosen = prompts.read(wheel.INFO)
  there = set(layout.expected(chosen, 5))
  layout.check(there, chosen, 5)
  scene = next(one.text for one in chosen if "scene" in one.dimensions)
  gone = {video for video in there if video[1] == 4 and video[0].startswith("A person")}
  gone |= {(scene, number) for number in range(5)}
  with pytest.raises(errors.UserError) as raised:
    layout.check(there - gone, chosen, 5)
  line = str(raised.value)
  assert "100 of 500 of human_action" in line
  assert "5 of 430 of scene" in line
  assert "appearance_style" not in line
  assert sum(f"{one.text}-" in line for one in chosen) == 1


def test_a_video_of_a_rewritten_prompt_has_vbenchs_name(tmp_path):
  (tmp_path / "video").write_bytes(b"of a long prompt")
  folder = layout.lay_out({("alley", 0): tmp_path / "video"}, tmp_path / "videos")
  assert [path.name for path in folder.iterdir()] == ["alley-0.mp4"]
  with pytest.raises(errors.UserError, match="there is no video"):
    layout.lay_out({}, tmp_path / "videos")
