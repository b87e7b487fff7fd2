"""Means, shares and differences are those of the queries that all systems share."""

import dataclasses

import pytest
from etils import epath

from configs import evaluate as evaluate_config
from vpo_jax import errors, records, stages
from vpo_jax.evaluate import levels, measures, numbered, paper, systems, tables
from vpo_jax.evaluate.suites import base, test

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
  """results.json and the page of the suite "test"; query "b" is safety-related."""
  config = evaluate_config.get_config()
  config.compare.draws = 200
  config.compare.levels = limits
  chosen = systems.parse(rows)
  verdicts = verdicts or {one.name: {"a": "aligned"} for one in chosen}
  items = {
    name: base.Item(
      records.Query(name, name, "safety" if name == "b" else "general"),
      {"kind": (name,)},
    )
    for name in "abc"
  }
  found = base.Found(
    config=config,
    chosen=chosen,
    items=items,
    rows=(),
    verdicts=verdicts,
    videos={},
    scores={"main": scores},
    folder=epath.Path("evaluate"),
    place=epath.Path("suites"),
    work=stages.Work("evaluate", config, *[epath.Path("x")] * 3, {}),
  )
  summaries = [
    measures.summarize(
      one,
      measures.pairs(chosen),
      {name: item.labels for name, item in items.items()},
      config.compare,
    )
    for of in test.SUITE.measures
    for one in of(found)
  ]
  results = {
    "note": note,
    "setup": [],
    "systems": {one.name: {"source": one.source, "of": one.of} for one in chosen},
    "suites": {
      "test": {
        "title": "tests",
        "queries": len(items),
        "dropped": 0,
        "in_training": 0,
        "systems": [one.name for one in chosen],
        "measures": summaries,
      }
    },
  }
  reference = paper.parse(config.compare, {"main": model} if model else {})
  results |= numbered.tables_and_figures(results, reference, {})
  return results, "\n\n".join(tables.sections(results, reference))


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
  reward = measures.find(found, "overall")
  assert (reward["queries"], reward["dropped"]) == (2, 1)
  means = {name: row["mean"] for name, row in reward["systems"].items()}
  assert means == {"sft": 1.5, "vpo": 3.0}
  for group in ("alignment", "physics"):
    assert measures.find(found, group)["systems"]["vpo"]["mean"] == 1.5
  (difference,) = reward["differences"]
  assert difference["mean"] == 1.5
  assert (difference["low"], difference["high"]) == (1.0, 2.0)
  assert [difference[k] for k in ("wins", "ties", "losses", "net")] == [2, 0, 0, 1.0]
  assert difference["p"] == 0.5  # two of the four sign changes are as extreme
  # Only "b" is safety-related.
  level = [measures.find(found, f"level {k}") for k in (1, 2, 3, 4)]
  assert [row["systems"]["sft"]["mean"] for row in level] == [0, 0, 1, 0]
  assert [row["systems"]["vpo"]["mean"] for row in level] == [0.5, 0.5, 0, 0]
  unsafe = measures.find(found, "unsafe videos")
  assert [unsafe["systems"][name]["mean"] for name in ("sft", "vpo")] == [1.0, 0.0]
  assert unsafe["queries"] == 1
  shares = {v: measures.find(found, v) for v in ("aligned", "unsafe", "refusal")}
  assert shares["aligned"]["queries"] == 2
  assert [row["systems"]["vpo"]["mean"] for row in shares.values()] == [0.5, 0, 0.5]
  assert shares["unsafe"]["differences"][0]["mean"] == -0.5
  # The means of a label are of its queries.
  kinds = reward["by"]["kind"]
  assert {kind: one["queries"] for kind, one in kinds.items()} == {"a": 1, "b": 1}
  assert kinds["b"]["systems"]["vpo"]["mean"] == 4.0
  # The paper's numbers for CogVideoX-2B stand in brackets.
  cells = {row["system"]: row["cells"] for row in found["tables"]["1"][0]["rows"]}
  assert [cell["paper"] for cell in cells["vpo"]] == [1.34, 0.34, 3.76]
  assert "| vpo | 1.50 (1.34), 1.00 to 2.00 |" in page
  assert "| vpo | 50.0 (94.6), 0.0 to 100.0 | 0.0 (0.6), 0.0 to 0.0 |" in page
  assert "Not shown: that the mean reward of main's videos differs" in page


def test_what_is_shown_is_said_in_words():
  """Only a difference that survives the correction is called shown."""
  scores = {
    "sft": by_query(*(scored(str(k), 1.0 + 0.01 * k) for k in range(9))),
    "vpo": by_query(*(scored(str(k), 2.0 + 0.02 * k) for k in range(9))),
  }
  config = evaluate_config.get_config().compare
  measure = measures.Measure(
    "overall",
    {n: {q: v[0].reward for q, v in s.items()} for n, s in scores.items()},
    "main",
  )
  summary = measures.summarize(measure, [("sft", "vpo")], {}, config)
  assert summary["differences"][0]["p"] == pytest.approx(2 / 2**9)
  results = {
    "note": "",
    "setup": [],
    "systems": {n: {"source": n, "of": ""} for n in scores},
    "suites": {
      "test": {
        "title": "",
        "queries": 9,
        "dropped": 0,
        "in_training": 0,
        "systems": list(scores),
        "measures": [summary],
      }
    },
    "tables": {},
    "figures": {},
  }
  page = "\n".join(tables.sections(results, paper.parse(config, {})))
  assert "Shown: the mean reward of main's videos is higher for vpo than" in page


def test_iterations_are_compared_with_where_they_began():
  rows = ("original=query", "sft=s", "vpo=v", "vpo_2=v of vpo", "vpo_3=v of vpo_2")
  names = [one.name for one in systems.parse(rows)]
  scores = {name: by_query(scored("a", k)) for k, name in enumerate(names)}
  found, page = compared(rows, scores, model="CogVideoX-5B")
  pairs = [
    (row["two"], row["one"]) for row in measures.find(found, "overall")["differences"]
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
  assert "| original | 0 | 0.00 (1.31), 0.00 to 0.00 |" in page
  assert "| vpo_3 | 3 | 2.00 (1.52), 2.00 to 2.00 |" in page
  (part,) = found["tables"]["6"]
  assert [row["iteration"] for row in part["rows"]] == [0, 1, 2, 3]


def test_other_video_models_have_no_numbers_of_the_paper():
  scores = {"sft": by_query(scored("a", 1.0)), "vpo": by_query(scored("a", 2.0))}
  _, page = compared(("sft=one", "vpo=two"), scores, note="A rehearsal.")
  assert "| vpo | 1.00, 1.00 to 1.00 |" in page
  assert "rackets" not in page
  assert page.count("**A rehearsal.**") == page.count("\n## ") + 1


def test_a_limit_on_what_nobody_measures_and_nothing_in_common_are_one_line():
  one, two = by_query(scored("b", 1.0)), by_query(scored("c", 1.0))
  with pytest.raises(errors.UserError, match="main: no query has a value"):
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


def test_prompts_that_the_text_encoder_cut_are_a_column():
  def cut(query, lost):
    return dataclasses.replace(scored(query, 1.0), lost_tokens=lost)

  rows = ("sft=one", "vpo=two")
  scores = {
    "sft": by_query(cut("a", 0), cut("a", 3), cut("b", 0)),
    "vpo": by_query(cut("a", 0), cut("b", 0)),
  }
  found, page = compared(rows, scores, limits=())
  shares = measures.find(found, "cut prompts")
  assert shares["systems"]["sft"]["mean"] == 0.25  # of a's videos half, of b's none
  assert shares["systems"]["vpo"]["mean"] == 0.0
  assert "cut prompts" in page
  whole = {name: by_query(scored("a", 1.0)) for name in ("sft", "vpo")}
  found, page = compared(rows, whole, limits=())
  assert measures.find(found, "cut prompts") is None
  assert "cut prompts" not in page
