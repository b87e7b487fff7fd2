import json
import pathlib

import pytest

from torch_bridge import questions


def write(folder, texts, weights):
  (folder / "qa.txt").write_text("\n".join(texts) + "\n")
  (folder / "weights.json").write_text(json.dumps(weights))
  return str(folder / "qa.txt"), str(folder / "weights.json")


def test_text_questions_need_one_weight_each(tmp_path):
  texts = ("Is it [[prompt]]?", "Is it sharp?")
  qa, weights = write(tmp_path, texts, [1.0, 0.5])
  loaded = questions.load(qa, weights)
  assert (loaded.texts, loaded.weights) == (texts, (1.0, 0.5))
  (tmp_path / "w.txt").write_text("1.0\n")
  with pytest.raises(ValueError, match=r"2 questions.* 1 weights"):
    questions.load(qa, str(tmp_path / "w.txt"))
  with pytest.raises(ValueError, match="needs a weight file"):
    questions.load(qa)
  with pytest.raises(ValueError, match=r"none\.json"):
    questions.load(str(tmp_path / "none.json"))


def test_a_byte_order_mark_is_no_part_of_a_question(tmp_path):
  (tmp_path / "q.txt").write_bytes(b"\xef\xbb\xbfIs it red?\n")
  (tmp_path / "w.json").write_bytes(b"\xef\xbb\xbf[0.5]")
  found = questions.load(str(tmp_path / "q.txt"), str(tmp_path / "w.json"))
  assert (found.texts, found.weights) == (("Is it red?",), (0.5,))


def test_another_encoding_is_named_with_its_byte(tmp_path):
  (tmp_path / "q.txt").write_bytes(b"Is it a caf\xe9?\n")
  (tmp_path / "w.json").write_text("[0.5]")
  with pytest.raises(ValueError, match=r"q\.txt: byte 11 is not UTF-8"):
    questions.load(str(tmp_path / "q.txt"), str(tmp_path / "w.json"))


def test_json_questions_have_weights_and_groups(tmp_path):
  rows = [
    {"question": name, "weight": weight, "group": name[0], "extra": 1}
    for name, weight in (("a1", 1), ("b1", 2), ("a2", 3))
  ]
  (tmp_path / "qa.json").write_text(json.dumps(rows))
  loaded = questions.load(str(tmp_path / "qa.json"))
  assert loaded.texts == ("a1", "b1", "a2")
  assert loaded.weights == (1.0, 2.0, 3.0)
  assert loaded.groups == {"a": (0, 2), "b": (1,)}
  (tmp_path / "qa.json").write_text(json.dumps([{"question": "a1"}]))
  with pytest.raises(ValueError, match="not a list of objects with question, weight"):
    questions.load(str(tmp_path / "qa.json"))


def test_sixty_four_questions_have_visionrewards_groups(tmp_path):
  paths = write(tmp_path, [f"q{i}?" for i in range(64)], [0.1] * 64)
  loaded = questions.load(*paths)
  members = sorted(i for group in loaded.groups.values() for i in group)
  assert members == list(range(64))
  assert loaded.groups["alignment"] == (0, 1, 2, 3)
  assert loaded.groups["safety"] == (60, 61, 62, 63)


# Of the 64 questions, 29 have a weight (which ones is made up here), with a question of
# each group but safety.
WEIGHTED = [0, 2, 3, 5, 6, 8, 11, 12, 15, 19, 21, 23, 24, 26, 28, 31, 33, 35, 37, 38]
WEIGHTED += [40, 42, 44, 47, 50, 51, 54, 57, 59]
WEIGHTS = [0.25 + i if i in WEIGHTED else 0.0 for i in range(64)]


def _visionreward(folder, texts, selected, weights):
  """VisionReward's two question files in one folder, and a weight file."""
  full, select = folder / "video_qa.txt", folder / "video_qa_select.txt"
  full.write_text("\n".join(texts) + "\n")
  select.write_text("\n".join(selected) + "\n")
  (folder / "weight.json").write_text(json.dumps(weights))
  return str(full), str(select), str(folder / "weight.json")


def test_both_sets_of_visionreward_give_the_same_reward_by_group(tmp_path):
  texts = [f"Question number {i} of [[prompt]]?" for i in range(64)]
  # The two files may differ in case and spaces.
  selected = [f"question  number {i} of [[prompt]]? " for i in WEIGHTED]
  full, select, weights = _visionreward(tmp_path, texts, selected, WEIGHTS)
  all_64 = questions.load(full, weights)
  by_weight = questions.load(select, weights)  # 29 questions, VPO's 64 weights
  (tmp_path / "29.json").write_text(json.dumps([WEIGHTS[i] for i in WEIGHTED]))
  by_text = questions.load(select, str(tmp_path / "29.json"))
  assert by_text.weights == by_weight.weights == tuple(WEIGHTS[i] for i in WEIGHTED)
  assert by_text.groups == by_weight.groups
  assert by_text.groups.keys() == all_64.groups.keys()
  for name, members in all_64.groups.items():
    expected = sum(WEIGHTS[i] for i in members)
    assert sum(by_text.weights[i] for i in by_text.groups[name]) == expected
    assert bool(by_text.groups[name]) == (name != "safety")


def test_the_pair_that_does_not_fit_is_named(tmp_path):
  texts = [f"q{i}?" for i in range(64)]
  full, _, weights = _visionreward(tmp_path, texts, texts[:29], [1.0] * 29)
  with pytest.raises(ValueError, match=r"64 questions, .* 29 weights.*qa_select\.txt"):
    questions.load(full, weights)


def test_the_file_of_29_needs_the_file_of_64(tmp_path):
  texts = [f"q{i}?" for i in range(64)]
  full, select, weights = _visionreward(
    tmp_path, texts, [*texts[:28], "another?"], [1.0] * 29
  )
  with pytest.raises(ValueError, match=r"'another\?' is not a question of .*_qa\.txt"):
    questions.load(select, weights)
  pathlib.Path(full).unlink()
  with pytest.raises(ValueError, match=r"groups come from video_qa\.txt"):
    questions.load(select, weights)


def test_the_query_is_not_searched_for_placeholders():
  query = "a [[prompt]] {x} \\1"
  assert questions.fill("Does [[prompt]] show?", query) == f"Does {query} show?"
