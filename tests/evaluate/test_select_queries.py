"""Test queries are spread over the levels of difficulty."""

import itertools

import faulty
import pytest

from configs import select_queries as select_queries_config
from vpo_jax import errors, records, stages
from vpo_jax.evaluate import select_queries


@pytest.fixture
def config(tmp_path):
  config = select_queries_config.get_config()
  config.count = 10
  config.queries = str(tmp_path / "queries.jsonl")
  words = ("fox", "harbour", "violin", "glacier", "robot")
  words += ("kitchen", "dancer", "volcano", "turtle", "lantern")
  rows = [
    records.Query(f"{k}", f"{word} {scene} {words[k % 10 - 3]}")
    for k, (scene, word) in enumerate(
      itertools.product(("quietly follows a", "is in the", "explodes near"), words)
    )
  ]
  rows.append(records.Query("copy", f"{rows[4].text}."))
  records.write(tmp_path / "queries.jsonl", rows)
  return config


def test_each_level_has_its_share(config, tmp_path):
  """Levels that are rare give all that they have; the others share the rest."""

  def answer(number, body):
    content = body["messages"][0]["content"]
    query = content.split('User Query: "')[1].split('"')[0]
    level = 5 if query.startswith("violin") else 1 + ("explodes" in query)
    return f"Reason: it says Final Difficulty\n**Final Difficulty (1 to 5):** {level}"

  with faulty.running(faulty.Server(answer)) as server:
    config.teacher.update(server="", base_url=server.base_url, api_key_env="")
    counts = stages.run(select_queries.STAGE, config, tmp_path)
  assert (counts["rated"], counts["chosen"], counts["set_aside"]) == (30, 10, 0)
  levels = [counts[f"difficulty_{level}"] for level in (1, 2, 3, 4, 5)]
  assert levels == [3, 4, 0, 0, 3]
  chosen = list(
    records.read(tmp_path / "select_queries/queries.jsonl", select_queries.Rated)
  )
  assert "copy" not in {row.id for row in chosen}


@pytest.mark.parametrize(
  ("reply", "level"),
  [
    ("Reason: hard.\nFinal Difficulty (1 to 5): 4", 4),
    ("**Final Difficulty (1 to 5)**: **2**", 2),
    ("Final Difficulty (1 to 5): 1 to 5", None),
    ("Final Difficulty (1 to 5): 7", None),
    ("It is a 3.", None),
  ],
)
def test_a_reply_without_one_number_is_no_rating(reply, level):
  assert select_queries.read(reply) == level


def test_too_few_queries_are_one_line(config, tmp_path):
  config.count = 30
  with pytest.raises(errors.UserError, match="has 30 different queries, so"):
    stages.run(select_queries.STAGE, config, tmp_path)


def test_too_few_ratings_are_one_line(config, tmp_path):
  config.count = 29

  def answer(number, body):
    unrated = "violin" in body["messages"][0]["content"]
    return "It is hard to say." if unrated else "Final Difficulty (1 to 5): 3"

  with faulty.running(faulty.Server(answer)) as server:
    config.teacher.update(server="", base_url=server.base_url, api_key_env="")
    with pytest.raises(errors.UserError, match=r"only \d+ of 30 queries have a rating"):
      stages.run(select_queries.STAGE, config, tmp_path)
