import json

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


def test_the_query_is_not_searched_for_placeholders():
  query = "a [[prompt]] {x} \\1"
  assert questions.fill("Does [[prompt]] show?", query) == f"Does {query} show?"
