"""Clips of two systems, and answers to a study."""

import json

import pytest

from torch_bridge import video
from torch_bridge.miniature import clips, world
from vpo_jax.evaluate.human import questions, study

SYSTEMS = ("optimizer-under-test", "plain-baseline")
QUESTIONS = [question.id for question in questions.QUESTIONS["pairs"]]


@pytest.fixture(scope="session")
def write_clips(tmp_path_factory):
  """Writes one mp4 per system and query: files by system and query."""

  def write(count, systems=SYSTEMS):
    folder = tmp_path_factory.mktemp("clips")
    found = {name: {} for name in systems}
    random = world.generator(count)
    for name in systems:
      for k, clip in enumerate(
        clips.render([world.draw(random) for _ in range(count)])
      ):
        path = folder / f"rendered-{name}-{k}.mp4"
        video.write(path, clip, world.FPS, {"codec": "libx264", "crf": 17})
        found[name][f"query-{k}"] = path
    return found

  return write


@pytest.fixture(scope="session")
def twenty(write_clips):
  """A study of twenty pairs."""
  videos = write_clips(20)
  queries = {f"query-{k}": f"the {k}th thing that a user asked for" for k in range(20)}
  return study.pairs(videos, queries, [SYSTEMS])


@pytest.fixture
def downloaded(tmp_path):
  """Writes the file that a rater downloads; `given` has (item, question, choice)."""

  def write(name, made, rater, given, at="2026-12-01T10:00:00.000Z"):
    rows = [
      {"item": item, "question": question, "choice": choice, "at": at}
      for item, question, choice in given
    ]
    file = {
      "format": "ratings",
      "version": 1,
      "study": made.id,
      "rater": rater,
      "answers": rows,
    }
    path = tmp_path / name
    path.write_text(json.dumps(file))
    return path

  return write
