"""A gain in reward is attributed to its source; lost alignment is reported."""

import json

import numpy as np
import pytest
from etils import epath

from configs import evaluate as evaluate_config
from vpo_jax import records, stages
from vpo_jax.evaluate import gain_tables, measures, reward_gains, systems, tables
from vpo_jax.evaluate.suites import base, measured

ROWS = ("sft=one", "vpo=two")
GAINS = np.array([1.0, 1.0, -0.5, -0.5] * 20)
UNRELATED = np.array([3.0, -3.0, 3.0, -3.0] * 20)  # its correlation with GAINS is 0


def measure(name, gains, model="main", unit=""):
  """The first system's values differ by query and take no part in the gains."""
  first = np.linspace(0, 1, len(gains)) if not unit else (gains < 0).astype(float)
  of = {"sft": first, "vpo": first + gains}
  return measures.Measure(
    name,
    {one: {str(q): float(v) for q, v in enumerate(row)} for one, row in of.items()},
    model,
    unit,
  )


def verdicts(loses, gains, count=80):
  """Aligned and imprecise: `loses` prompts become imprecise, `gains` aligned."""
  changes = np.repeat([-1.0, 1.0, 0.0], [loses, gains, count - loses - gains])
  return [
    measure(reward_gains.ALIGNED, changes, "", "%"),
    measure(reward_gains.IMPRECISE, -changes, "", "%"),
  ]


def compared(**values):
  """The results of some suites' measures."""
  config = evaluate_config.get_config().compare
  config.draws = 400
  suites = {
    suite: {
      "measures": [measures.summarize(m, [("sft", "vpo")], {}, config) for m in chosen]
    }
    for suite, chosen in values.items()
  }
  for suite, gains in reward_gains.summarize(suites, values, config).items():
    suites[suite]["reward_gains"] = gains
  results = {"systems": {n: {"of": ""} for n in ("sft", "vpo")}, "suites": suites}
  return json.loads(json.dumps(results, allow_nan=False))


def test_the_gain_goes_with_the_dimension_that_it_comes_from():
  found = compared(
    test=[
      measure("alignment", GAINS),
      measure("physics", np.full(80, 0.1)),
      measure("overall", GAINS + 0.1),
      measure(measured.WORDS, UNRELATED, ""),
    ]
  )
  (row,) = found["suites"]["test"]["reward_gains"]
  assert row["mean"] == pytest.approx(0.35)
  assert row["low"] < 0.35 < row["high"]
  parts = {part["name"]: part for part in row["parts"]}
  assert list(parts) == ["alignment", "physics", measured.WORDS]
  assert parts["alignment"]["mean"] == pytest.approx(0.25)
  assert parts["alignment"]["correlation"]["value"] == pytest.approx(1)
  assert parts["alignment"]["correlation"]["low"] == pytest.approx(1)
  # A constant gain has no correlation, here and on the page.
  assert parts["physics"]["correlation"] is None
  unrelated = parts[measured.WORDS]["correlation"]
  assert unrelated["value"] == pytest.approx(0, abs=1e-12)
  assert unrelated["low"] < 0 < unrelated["high"]
  (table,) = gain_tables.tables(found)
  assert table["heads"] == ["reward", "alignment", "physics", measured.WORDS]
  cells = dict(zip(table["heads"], table["rows"][0]["cells"], strict=True))
  assert (cells["physics"]["mean"], cells["physics"]["r"]) == ("+0.10", "")
  assert (cells["alignment"]["r"], cells[measured.WORDS]["r"]) == ("1.00", "0.00")
  (page,) = gain_tables.sections(found)
  assert "| +0.10, +0.10 to +0.10 |" in page
  assert row["loses_alignment"] is None  # nobody judged
  assert gain_tables.findings(found) == []


@pytest.mark.parametrize(
  ("reward", "loses", "gains", "flagged"),
  [
    (GAINS, 30, 2, True),
    (GAINS, 10, 9, False),  # the aligned share's interval includes 0
    (GAINS, 2, 30, False),
    (UNRELATED + 0.1, 30, 2, False),  # the reward's interval includes 0
    (-GAINS, 30, 2, False),
  ],
)
def test_a_gain_in_reward_with_a_loss_of_alignment_is_said(
  reward, loses, gains, flagged
):
  found = compared(test=[*verdicts(loses, gains), measure("overall", reward)])
  (row,) = found["suites"]["test"]["reward_gains"]
  assert row["loses_alignment"] is flagged
  claims = tables.claims(found)
  said = [line for line in claims if "by losing alignment" in line]
  assert said == gain_tables.findings(found)
  if not flagged:
    assert said == []
    return
  assert said == claims[:1]
  assert said[0].startswith("vpo gains reward over sft (+0.25, ")
  assert "80 queries of the run's test set) by losing alignment (-35.0 " in said[0]
  assert said[0].endswith("not recommended.")


def test_verdicts_may_be_of_another_suite():
  """As in the paper, whose rewards are of MonetBench."""
  found = compared(
    monetbench=[measure("overall", GAINS), measure(measured.WORDS, UNRELATED, "")],
    query_alignment=[*verdicts(30, 2, 60), measure(measured.WORDS, UNRELATED[:60], "")],
  )
  assert found["suites"]["query_alignment"]["reward_gains"] == []
  (row,) = found["suites"]["monetbench"]["reward_gains"]
  words, aligned, imprecise = row["parts"]
  assert (words["suite"], words["queries"]) == ("monetbench", 80)
  assert (aligned["suite"], aligned["queries"]) == ("query_alignment", 60)
  assert aligned["mean"] == -imprecise["mean"] == pytest.approx(-28 / 60)
  assert aligned["correlation"] is None  # other queries
  (line,) = gain_tables.findings(found)
  assert "60 queries of query alignment): not recommended" in line
  (page,) = gain_tables.sections(found)
  assert "| aligned, percentage points (query alignment) |" in page


def prompts(*of_systems):
  """The measures of each system's prompts, by name."""
  config = evaluate_config.get_config()
  rows = [
    records.Candidates(
      query_id=str(n),
      query="",
      category="general",
      model="",
      settings={},
      candidates=tuple(
        records.Candidate(k, text, "stop", 1) for k, text in enumerate(texts)
      ),
    )
    for n, texts in enumerate(zip(*of_systems, strict=True))
  ]
  found = base.Found(
    config=config,
    chosen=systems.parse(ROWS),
    items={},
    rows=rows,
    verdicts={},
    videos={},
    scores={},
    folder=epath.Path("evaluate"),
    place=epath.Path("suites"),
    work=stages.Work("evaluate", config, *[epath.Path("x")] * 3, {}),
  )
  return {one.name: one for one in measured.prompts(found)}


def test_equal_prompts_have_self_bleu_1_and_prompts_without_a_common_word_0():
  equal = ["A red fox runs.", "a red FOX runs", "A red fox, runs!"]
  apart = ["one two three four", "five six seven", "eight 猫在跑"]
  found = prompts(equal, apart)
  scores = found[measured.SELF_BLEU]
  assert list(scores.values["sft"].values()) == [1.0, 1.0, 1.0]
  assert list(scores.values["vpo"].values()) == [0.0, 0.0, 0.0]
  lengths = found[measured.WORDS]
  assert (lengths.better, lengths.unit, lengths.model) == ("", "", "")
  assert lengths.values["vpo"] == {"0": 4.0, "1": 3.0, "2": 4.0}
  # A single prompt has no others.
  assert list(prompts(equal[:1], apart[:1])) == [measured.WORDS]
