import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from torch_bridge import contract


def test_a_video_id_depends_on_all_that_changes_it_and_on_nothing_else():
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
def test_a_row_comes_back_as_it_was(row):
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
def test_a_row_of_another_kind_is_refused_by_name(change, reason):
  row = dataclasses.asdict(contract.render_request("p", "m", {}, 0)) | change
  with pytest.raises(contract.BadRow, match=reason):
    contract.parse(json.dumps(row), contract.RenderRequest)


def test_a_row_that_lacks_a_field_is_refused_by_name():
  with pytest.raises(contract.BadRow, match="prompt is missing"):
    contract.parse('{"id": "a"}', contract.RenderRequest)


def test_bad_lines_do_not_lose_the_good_ones(tmp_path):
  good = contract.render_request("a cat", "m", {}, 0)
  path = tmp_path / "requests.jsonl"
  path.write_bytes(b"{\n" + contract.dump(good).encode() + b"\n\xff\xfe\n[]\n")
  rows = list(contract.read_rows(path, contract.RenderRequest))
  assert rows[1] == good
  assert [row.stage for row in (rows[0], rows[2], rows[3])] == ["request"] * 3
  assert rows[2].reason.startswith("requests.jsonl:3: not JSON")


def test_publishing_leaves_nothing_when_it_fails(tmp_path):
  with pytest.raises(TypeError), contract.publish(tmp_path / "a") as file:
    file.writelines([b"half", "no bytes"])
  assert list(tmp_path.iterdir()) == []


def test_a_video_whose_bytes_changed_is_not_found(tmp_path):
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


def test_an_unknown_preset_is_told_with_those_there_are():
  with pytest.raises(KeyError, match="cogvideox-5b"):
    contract.preset("cogvideo")


def test_the_contract_needs_the_standard_library_alone(tmp_path):
  """So that any interpreter can speak it: none of our packages, none of anyone's."""
  folder = pathlib.Path(contract.__file__).parent
  code = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(folder.parent)!r})
from torch_bridge import contract, questions, shards
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(roots - set(sys.stdlib_module_names)))
"""
  # Isolated, and without site-packages.
  command = [sys.executable, "-I", "-S", "-c", code]
  ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert (ended.stdout.split(), ended.stderr) == (["torch_bridge"], "")
