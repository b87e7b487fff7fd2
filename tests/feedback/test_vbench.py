import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_bridge import contract
from vpo_jax import errors, records
from vpo_jax.feedback import vbench


def test_a_text_of_vbench_is_its_files_name():
  text = 'a person is "air drumming", it\'s 4k: a dog & a cat?'
  assert vbench.name(text, 3) == f"{text}-3.mp4"


NASTY = ["../../etc/passwd", "..", "", ".", "a/b", "a\\b", "a\nb", "a\x00b", "猫" * 200]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_no_text_leads_out_of_the_folder_or_beyond_its_limits(tmp_path, text):
  name = vbench.name(text, 0)
  path = tmp_path / name
  path.write_bytes(b"")
  assert [file.name for file in tmp_path.iterdir()] == [name]
  assert path.resolve().parent == tmp_path.resolve()
  assert not name.startswith(".")


@given(st.text(), st.text())
def test_two_texts_never_share_a_name(one, other):
  name = vbench.name(one, 0)
  assert len(name.encode()) <= 255
  assert pathlib.PurePath(name).name == name
  assert (name == vbench.name(other, 0)) == (one == other)


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
    counts = vbench.lay_out(tmp_path / "scores.jsonl", store.root, tmp_path / "out")
    assert counts == {"queries": 2, "videos": 4}
    found = {p.name: p.read_text() for p in (tmp_path / "out").iterdir()}
    assert found["a cat-1.mp4"] == "a cat 0 1"
    assert sorted(found.values()) == [
      f"{q} 0 {s}" for q in ("../a dog", "a cat") for s in (0, 1)
    ]
  store.video(rows[2].video_id).write_bytes(b"cut")
  with pytest.raises(errors.UserError, match=f"video {rows[2].video_id}"):
    vbench.lay_out(tmp_path / "scores.jsonl", store.root, tmp_path / "out")
  records.write(tmp_path / "scores.jsonl", [])
  with pytest.raises(errors.UserError, match="no video was scored"):
    vbench.lay_out(tmp_path / "scores.jsonl", store.root, tmp_path / "out")
