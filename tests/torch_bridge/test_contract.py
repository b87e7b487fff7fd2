import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from torch_bridge import contract


def test_a_video_id_depends_on_everything_that_changes_the_video():
  base = contract.render_request("a cat", "m", {"a": 1, "b": 2}, 0)
  same = contract.render_request("a cat", "m", {"b": 2, "a": 1}, 0)
  others = [
    contract.render_request("a dog", "m", {"a": 1, "b": 2}, 0),
    contract.render_request("a cat", "n", {"a": 1, "b": 2}, 0),
    contract.render_request("a cat", "m", {"a": 1, "b": 3}, 0),
    contract.render_request("a cat", "m", {"a": 1, "b": 2}, 1),
  ]
  assert base.id == same.id
  assert len({base.id, *(other.id for other in others)}) == 5


@pytest.mark.parametrize(
  "row",
  [
    contract.render_request('«{"braces"}» \n [[prompt]] 猫', "m", {"a": [1]}, 3),
    contract.score_request("v", "s", "text", "query"),
    contract.Failure("i", "render", "why", 2),
    contract.Answers("i", "v", [True], [0.5], {"x": 1}, "query", "s", "r", "q", "w", 1),
    contract.RenderedVideo("i", "p", "s", 9, 8, 4, 2, 1.1, 0, {}, {"d": "cpu"}, 0.5),
  ],
)
def test_a_row_survives_a_round_trip(row):
  line = contract.dump(row)
  assert "\n" not in line
  assert contract.parse(line, type(row)) == row


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"version": 2}, "version 2"),
    ({"seed": "0"}, "seed is not a int"),
    ({"seed": True}, "seed is not a int"),
    ({"extra": 1}, "extra"),
  ],
)
def test_a_wrong_field_is_named(change, reason):
  row = dataclasses.asdict(contract.render_request("p", "m", {}, 0)) | change
  with pytest.raises(contract.BadRow, match=reason):
    contract.parse(json.dumps(row), contract.RenderRequest)


def test_a_missing_field_is_named():
  with pytest.raises(contract.BadRow, match="prompt is missing"):
    contract.parse('{"id": "a"}', contract.RenderRequest)


def test_bad_lines_are_failures_and_the_others_are_read(tmp_path):
  good = contract.render_request("a cat", "m", {}, 0)
  path = tmp_path / "requests.jsonl"
  path.write_bytes(b"{\n" + contract.dump(good).encode() + b"\n\xff\xfe\n[]\n")
  rows = list(contract.read_rows(path, contract.RenderRequest))
  assert rows[1] == good
  assert [row.stage for row in (rows[0], rows[2], rows[3])] == ["request"] * 3
  assert rows[2].reason.startswith("requests.jsonl:3: not JSON")


def test_a_failed_publication_leaves_no_file(tmp_path):
  with pytest.raises(TypeError), contract.publish(tmp_path / "a") as file:
    file.writelines([b"half", "no bytes"])
  assert list(tmp_path.iterdir()) == []


def test_a_video_is_found_only_with_its_published_bytes(tmp_path):
  store = contract.Store(tmp_path)
  path = store.video("abc")
  path.parent.mkdir(parents=True)
  path.write_bytes(b"0123456789")
  row = contract.RenderedVideo(
    "abc", "videos/ab/abc.mp4", contract.sha256(path), 9, 8, 4, 4, 1.0, 0, {}, {}, 0.1
  )
  contract.publish_row(store.rendered("abc"), row)
  assert store.find_video("abc") == row
  path.write_bytes(b"01234")
  assert store.find_video("abc") is None
  path.unlink()
  assert store.find_video("abc") is None


def test_an_unknown_preset_is_answered_with_the_known_ones():
  with pytest.raises(KeyError, match="cogvideox-5b"):
    contract.preset("cogvideo")


def test_a_model_in_a_preset_file_may_be_relative_to_the_file(tmp_path):
  (tmp_path / "weights").mkdir()
  path = tmp_path / "mine.json"
  path.write_text('{"model": "weights", "fps": 8}')
  expected = {"model": str((tmp_path / "weights").resolve()), "fps": 8}
  assert contract.preset(str(path)) == expected
  path.write_text('{"model": "THUDM/CogVideoX-2b"}')
  assert contract.preset(str(path)) == {"model": "THUDM/CogVideoX-2b"}


def test_the_contract_needs_only_the_standard_library(tmp_path):
  folder = pathlib.Path(contract.__file__).parent
  code = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(folder.parent)!r})
from torch_bridge import contract, questions, shards
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(roots - set(sys.stdlib_module_names)))
"""
  # -I -S: isolated, without site-packages.
  command = [sys.executable, "-I", "-S", "-c", code]
  ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert (ended.stdout.split(), ended.stderr) == (["torch_bridge"], "")
