"""Answers are read from files of the page and of Label Studio, or refused."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.evaluate.human.conftest import QUESTIONS, SYSTEMS
from vpo_jax import errors
from vpo_jax.evaluate.human import answers, label_studio, study

CHOICES = ("left", "tie", "right")


def given(made, shift=0):
  """An answer to every question."""
  return [
    (item.id, question, CHOICES[(k + n + shift) % 3])
    for k, item in enumerate(made.items)
    for n, question in enumerate(QUESTIONS)
  ]


def exported(tasks, raters):
  """An export of Label Studio in its documented form.

  Args:
    tasks: as they were imported.
    raters: the rater's id and answers (item, question, choice) for each annotation.
  """
  found = []
  for number, task in enumerate(tasks, start=1):
    annotations = [
      {
        "id": 100 * number + k,
        "completed_by": rater,
        "result": [
          {
            "value": {"choices": [choice]},
            "id": f"r{n}",
            "from_name": question,
            "to_name": "left",
            "type": "choices",
            "origin": "manual",
          }
          for n, (item, question, choice) in enumerate(rows)
          if item == task["data"]["item"]
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-12-01T10:00:00.123456Z",
        "updated_at": "2026-12-01T10:00:00.123456Z",
        "lead_time": 12.5,
        "task": number,
      }
      for k, (rater, rows) in enumerate(raters)
    ]
    found.append({"id": number, "annotations": annotations, "predictions": [], **task})
  return found


def facts(read):
  return sorted((a.item, a.question, a.choice) for a in read)


def test_choices_become_outcomes_of_systems(twenty, downloaded):
  """Whoever prefers one system's video everywhere is seen to prefer that system."""
  sides = {
    key.item: "left" if key.left == SYSTEMS[0] else "right" for key in twenty.keys
  }
  rows = [
    (item, question, side) for item, side in sides.items() for question in QUESTIONS
  ]
  path = downloaded("a.json", twenty, "Anna", rows)
  read, counts = answers.read([path], twenty.keys)
  found = answers.preferences(read, twenty.keys)
  assert len(found) == 60
  assert {(row.one, row.two, row.outcome) for row in found} == {(*SYSTEMS, 1)}
  assert {row.query_id for row in found} == {f"query-{k}" for k in range(20)}
  assert set(counts.values()) == {0}


def test_levels_become_levels_of_videos(write_clips, downloaded):
  videos = write_clips(3)
  made = study.levels(videos, {f"query-{k}": "q" for k in range(3)})
  rows = [(item.id, "level", str(1 + k % 4)) for k, item in enumerate(made.items)]
  read, _ = answers.read([downloaded("a.json", made, "Anna", rows)], made.keys)
  for row, (_, _, level) in zip(answers.levels(read, made.keys), rows, strict=True):
    assert row.level == int(level)
    assert row.video_id == videos[row.system][row.query_id].stem


def test_the_latest_answer_counts_whatever_the_order_of_files(twenty, downloaded):
  item = twenty.items[0].id
  early = [(item, "overall", "left"), (item, "video_quality", "tie")]
  late = [(item, "overall", "right"), (item, "video_quality", "tie")]
  paths = [
    downloaded("1.json", twenty, "Anna", late, at="2026-12-02T09:00:00+01:00"),
    downloaded("2.json", twenty, "Anna", early, at="2026-12-02T07:59:00Z"),
    downloaded("3.json", twenty, "Bob", early),
  ]
  read, counts = answers.read(paths, twenty.keys)
  assert {(a.rater, a.question, a.choice) for a in read} == {
    ("Anna", "overall", "right"),
    ("Anna", "video_quality", "tie"),
    ("Bob", "overall", "left"),
    ("Bob", "video_quality", "tie"),
  }
  assert (counts["changed"], counts["repeated"], counts["unanswered"]) == (1, 1, 2)


def test_an_export_of_label_studio_gives_the_same_answers(twenty, downloaded, tmp_path):
  study.write(twenty, tmp_path, "http://host/videos/")
  tasks = json.loads((tmp_path / label_studio.TASKS).read_text())
  rows, others = given(twenty), given(twenty, shift=1)
  export = exported(tasks, [(3, rows), ({"id": 4, "email": "b@host"}, others)])
  path = tmp_path / "export.json"
  path.write_text(json.dumps(export))
  read, counts = answers.read([path], twenty.keys)
  assert set(counts.values()) == {0}
  assert {answer.rater for answer in read} == {"user 3", "b@host"}
  ours, _ = answers.read([downloaded("a.json", twenty, "Anna", rows)], twenty.keys)
  assert facts(a for a in read if a.rater == "user 3") == facts(ours)
  # Skipped tasks and open questions are counted; fields that others added are ignored.
  first, second, third = (task["annotations"][0] for task in export[:3])
  first["was_cancelled"] = True
  second["result"].pop()
  third["result"] = [{"from_name": "note", "value": {"text": ["dark"]}}]
  path.write_text(json.dumps(export))
  read, counts = answers.read([path], twenty.keys)
  assert counts == {"changed": 0, "repeated": 0, "unanswered": 4, "cancelled": 1}
  assert len(read) == 2 * 60 - 3 - 4


def test_the_labeling_interface_asks_for_what_is_read(twenty, tmp_path):
  study.write(twenty, tmp_path, "http://host/videos/")
  root = ElementTree.parse(tmp_path / label_studio.CONFIG).getroot()
  assert {video.get("value") for video in root.iter("Video")} == {"$left", "$right"}
  names = {video.get("name") for video in root.iter("Video")}
  asked = list(root.iter("Choices"))
  assert [one.get("name") for one in asked] == QUESTIONS
  assert {one.get("toName") for one in asked} <= names
  for one in asked:
    assert tuple(choice.get("alias") for choice in one) == CHOICES
  for task in json.loads((tmp_path / label_studio.TASKS).read_text()):
    for side in ("left", "right"):
      name = task["data"][side].removeprefix("http://host/videos/")
      assert (tmp_path / "study" / "videos" / name).exists()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"study": "0123456789abcdef"}, "answers to study 0123456789abcdef, but the key"),
    ({"format": "other"}, "neither a file that the raters' page downloaded nor"),
    ({"version": 2}, "version 2, this program reads version 1"),
    ({"rater": None}, "not a file of the raters' page: rater"),
    ({"answers": [{"item": "x"}]}, "answers.0.question"),
  ],
)
def test_a_wrong_file_is_refused_in_one_line(twenty, downloaded, change, message):
  path = downloaded("a.json", twenty, "Anna", given(twenty))
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(errors.UserError, match=message) as error:
    answers.read([path], twenty.keys)
  assert str(path) in str(error.value)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("row", "message"),
  [
    (("0" * 16, "overall", "left"), "the study has no item '0000000000000000'"),
    (("", "speed", "left"), "with a question 'speed'"),
    (("", "overall", "A"), "overall cannot be 'A'; it is one of left, right, tie"),
  ],
)
def test_an_answer_that_the_study_does_not_have_is_refused(
  twenty, downloaded, row, message
):
  row = (row[0] or twenty.items[0].id, *row[1:])
  with pytest.raises(errors.UserError, match=message):
    answers.read([downloaded("a.json", twenty, "Anna", [row])], twenty.keys)


def test_the_short_export_of_label_studio_is_refused(twenty, tmp_path):
  path = tmp_path / "min.json"
  path.write_text(json.dumps([{"id": 1, "item": twenty.items[0].id, "overall": "A"}]))
  with pytest.raises(errors.UserError, match="not as JSON-MIN"):
    answers.read([path], twenty.keys)
