"""Means, shares and differences are those of the queries that all systems share."""

import dataclasses

import pytest

from configs import evaluate as evaluate_config
from vpo_jax import errors, records
from vpo_jax.evaluate import compare, levels, paper, systems, tables

LIMITS = ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12")


def scored(query, reward, **scalars):
  return records.Scored(
    query_id=query,
    query=query,
    index=0,
    prompt="",
    video_id="",
    seed=0,
    reward=reward,
    signed=0.0,
    groups={"alignment": reward / 2, "physics": reward / 2},
    yes=(),
    scalars=dict.fromkeys(("splatter", "fire"), 0.0) | scalars,
  )


def by_query(*rows):
  found = {}
  for row in rows:
    found.setdefault(row.query_id, []).append(row)
  return found


def compared(rows, scores, verdicts=None, limits=LIMITS, model="", note=""):
  config = evaluate_config.get_config().compare
  config.draws = 200
  chosen = systems.parse(rows)
  verdicts = verdicts or {one.name: {"a": "aligned"} for one in chosen}
  found = compare.compare(
    chosen, verdicts, {"main": scores}, {"b"}, levels.parse(limits), config
  )
  found = {"note": note, "setup": []} | found
  reference = paper.parse(config, {"main": model} if model else {})
  return found, "\n\n".join(tables.sections(found, reference))


def test_only_queries_that_all_have_a_video_of_count():
  found, page = compared(
    ("sft=one", "vpo=two"),
    {
      "sft": by_query(
        scored("a", 1.0), scored("b", 2.0, splatter=0.05), scored("c", 9.0)
      ),
      "vpo": by_query(scored("a", 2.0), scored("b", 3.0), scored("b", 5.0, fire=0.03)),
    },
    {
      "sft": {"a": "aligned", "b": "unsafe", "c": "imprecise"},
      "vpo": {"a": "aligned", "b": "refusal"},
    },
    model="CogVideoX-2B",
  )
  filmed = found["video_models"]["main"]
  sft, vpo = filmed["systems"]["sft"], filmed["systems"]["vpo"]
  assert (filmed["queries"], filmed["dropped"]) == (2, 1)
  assert (sft["reward"], vpo["reward"]) == (1.5, 3.0)
  assert vpo["groups"] == {"alignment": 1.5, "physics": 1.5}
  assert (sft["levels"], vpo["levels"]) == ([0, 0, 1, 0], [0.5, 0.5, 0, 0])
  assert (sft["unsafe"], vpo["unsafe"]) == (1.0, 0.0)
  (difference,) = filmed["differences"]["reward"]
  assert difference["mean"] == 1.5
  assert (difference["low"], difference["high"]) == (1.0, 2.0)
  assert [difference[k] for k in ("wins", "ties", "losses")] == [2, 0, 0]
  judged = found["alignment"]
  assert judged["queries"] == 2
  assert judged["systems"]["vpo"] == {
    "aligned": 0.5,
    "unsafe": 0.0,
    "imprecise": 0.0,
    "refusal": 0.5,
  }
  assert judged["differences"]["unsafe"][0]["mean"] == -0.5
  # The paper's numbers for CogVideoX-2B stand in brackets.
  assert "| vpo | 1.50 (1.34) | 1.50 (0.34) | 3.00 (3.76) |" in page
  assert "| vpo | 50.0 (94.6) | 0.0 (0.6) | 0.0 (4.8) | 50.0 (0.0) |" in page
  assert "| sft | 0.0 | 0.0 | 100.0 | 0.0 | 100.0 |" in page


def test_iterations_are_compared_with_where_they_began():
  rows = ("original=query", "sft=s", "vpo=v", "vpo_2=v of vpo", "vpo_3=v of vpo_2")
  names = [one.name for one in systems.parse(rows)]
  scores = {name: by_query(scored("a", k)) for k, name in enumerate(names)}
  found, page = compared(rows, scores, model="CogVideoX-5B")
  pairs = [
    (row["two"], row["one"])
    for row in found["video_models"]["main"]["differences"]["reward"]
  ]
  assert pairs == [
    ("vpo_3", "original"),
    ("vpo_3", "vpo_2"),
    ("vpo_2", "original"),
    ("vpo_2", "vpo"),
    ("vpo", "original"),
    ("vpo", "sft"),
    ("sft", "original"),
  ]
  assert "| original | 0 | 0.00 (1.31) | 0.00 (0.34) | 0.00 (3.77) | 100.0 |" in page
  assert "| vpo_3 | 3 | 2.00 (1.52) | 2.00 (0.36) | 4.00 (4.18) | 100.0 |" in page


def test_other_video_models_have_no_numbers_of_the_paper():
  scores = {"sft": by_query(scored("a", 1.0)), "vpo": by_query(scored("a", 2.0))}
  _, page = compared(("sft=one", "vpo=two"), scores, note="A rehearsal.")
  assert "| vpo | 1.00 | 1.00 | 2.00 |" in page
  assert "rackets" not in page
  assert page.count("**A rehearsal.**") == page.count("\n## ") + 1


def test_a_limit_on_what_nobody_measures_and_nothing_in_common_are_one_line():
  one, two = by_query(scored("b", 1.0)), by_query(scored("c", 1.0))
  with pytest.raises(errors.UserError, match="main: no query has a video"):
    compared(("one=x", "two=y"), {"one": one, "two": two})
  with pytest.raises(errors.UserError, match="no 'smoke', only fire, splatter"):
    compared(("one=x", "two=y"), {"one": one, "two": one}, limits=("smoke 1 2 3",))


@pytest.mark.parametrize(
  ("rows", "says"),
  [
    (("one=x",), "two or more systems"),
    (("one=x", "two"), "'two': must be NAME=SOURCE"),
    (("one=x", "one=y"), "occurs once"),
    (("../one=x", "two=y"), "letters, digits"),
    (("two=x of one", "one=y"), "no earlier row is named 'one'"),
  ],
)
def test_systems_that_cannot_be_are_one_line(rows, says):
  with pytest.raises(errors.UserError, match=says):
    systems.parse(rows)


@pytest.mark.parametrize("row", ["splatter 0.03", "splatter 1 3 2", "splatter a b c"])
def test_limits_that_are_none_are_one_line(row):
  with pytest.raises(errors.UserError, match="must be like"):
    levels.parse([row])


def test_a_video_has_the_level_of_its_worst_measure():
  limits = levels.parse(LIMITS)
  for splatter, fire, level in (
    (0.0, 0.0, 1),
    (0.01, 0.02, 1),
    (0.02, 0.0, 2),
    (0.02, 0.07, 3),
    (0.07, 0.07, 4),
  ):
    assert levels.level({"splatter": splatter, "fire": fire}, limits) == level


def test_the_papers_numbers_are_of_its_tables():
  models = {"main": "CogVideoX-2B", "second": "Open-Sora 1.2"}
  beside = paper.parse(evaluate_config.get_config().compare, models)
  # Table 1's overall is at least the sum of the four dimensions it shows.
  for model in ("main", "second"):
    for system in ("original", "few_shot", "sft", "vpo"):
      row = beside.rewards(model, system)
      parts = ("alignment", "stability", "preservation", "physics")
      assert sum(row[part] for part in parts) < row["overall"]
  for system in ("few_shot", "sft", "without_text", "vpo"):
    assert sum(beside.alignment("main", system).values()) == pytest.approx(100, abs=0.3)
  assert not beside.rewards("second", "without_text")
  assert not beside.iteration(1)
  five = dataclasses.replace(beside, models={"main": "CogVideoX-5B"})
  for number, system in ((0, "original"), (1, "vpo")):
    assert beside.iteration(number).items() <= five.rewards("main", system).items()
  config = evaluate_config.get_config().compare
  config.paper = ("vpo VPO-XL",)
  with pytest.raises(errors.UserError, match="have no 'VPO-XL', only"):
    paper.parse(config, models)
