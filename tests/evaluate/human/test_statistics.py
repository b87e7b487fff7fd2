"""Statistics of answers: against values computed by hand, and closed forms."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from vpo_jax.evaluate.human import agreement, answers, statistics, strengths


def preference(rater, query, outcome, one="a", two="b", question="overall"):
  return answers.Preference(rater, query, question, one, two, outcome)


def rated(outcomes):
  """Preferences by query: a list of the raters' outcomes."""
  return [
    preference(f"rater {k}", query, outcome)
    for query, given in outcomes.items()
    for k, outcome in enumerate(given)
  ]


def test_shares_and_sign_test_are_those_of_a_hand_computation():
  rows = rated({"q1": [1, 1, 0], "q2": [1, -1], "q3": [-1], "q4": [0, 1], "q5": [1]})
  (found,) = statistics.preferences(rows, draws=100)
  assert (found["one"], found["two"], found["question"]) == ("a", "b", "overall")
  assert (found["queries"], found["answers"]) == (5, 9)
  shares = [found[name]["share"] for name in ("wins", "ties", "losses", "net")]
  assert shares == pytest.approx([5 / 9, 2 / 9, 2 / 9, 3 / 9])
  # q1, q4 and q5 are won by majority, q2 is a tie, q3 is lost.
  signs = found["sign_test"]
  assert (signs["wins"], signs["ties"], signs["losses"]) == (3, 1, 1)
  assert signs["p"] == pytest.approx(2 * (1 + 4) / 2**4)
  assert statistics.sign_test([0, 0])["p"] is None


def test_intervals_are_over_queries_not_answers():
  """Nine raters who always agree tell no more than one."""
  random = np.random.default_rng(0)
  outcomes = {f"q{k}": int(x) for k, x in enumerate(random.choice([1, 0, -1], 60))}
  (one,) = statistics.preferences(rated({q: [x] for q, x in outcomes.items()}))
  (nine,) = statistics.preferences(rated({q: [x] * 9 for q, x in outcomes.items()}))
  assert nine["net"] == pytest.approx(one["net"])
  # The normal interval of the mean of 60 outcomes.
  values = list(outcomes.values())
  half = 1.96 * np.std(values) / math.sqrt(60)
  assert one["net"]["low"] == pytest.approx(np.mean(values) - half, abs=0.02)
  assert one["net"]["high"] == pytest.approx(np.mean(values) + half, abs=0.02)


def test_one_query_has_no_width():
  (found,) = statistics.preferences(rated({"q": [1, 0]}))
  assert found["wins"] == {"share": 0.5, "low": 0.5, "high": 0.5}


def test_levels_and_unsafe_share():
  rows = [
    answers.Level(rater, query, "a", f"video of {query}", level)
    for query, levels in {
      "q1": (1, 1),
      "q2": (2, 3),
      "q3": (4, 4),
      "q4": (1, 1),
    }.items()
    for rater, level in zip(("r", "s"), levels, strict=True)
  ]
  (found,) = statistics.levels(rows, draws=2000)
  shares = [level["share"] for level in found["levels"]]
  assert shares == [4 / 8, 1 / 8, 1 / 8, 2 / 8]
  assert found["unsafe"]["share"] == 3 / 8
  assert found["unsafe"]["low"] == 0
  assert 0.75 <= found["unsafe"]["high"] <= 1


def test_alpha_is_krippendorffs():
  """The example of Krippendorff (2011), "Computing Krippendorff's Alpha", part C."""
  raters = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
  }
  ratings = {
    (rater, unit): int(value)
    for rater, row in raters.items()
    for unit, value in enumerate(row.split())
    if value != "."
  }
  nominal = agreement.alpha(ratings, "nominal", draws=500)
  ordinal = agreement.alpha(ratings, "ordinal", draws=500)
  assert nominal["alpha"] == pytest.approx(0.743, abs=5e-4)
  assert ordinal["alpha"] == pytest.approx(0.815, abs=5e-4)
  assert (nominal["raters"], nominal["units"]) == (4, 11)
  assert nominal["low"] < nominal["alpha"] < nominal["high"]


@pytest.mark.parametrize(
  "ratings", [{}, {("r", 1): 2}, {("r", 1): 2, ("s", 1): 2, ("r", 2): 1}]
)
def test_alpha_without_variation_or_overlap_is_not_defined(ratings):
  assert agreement.alpha(ratings, "nominal")["alpha"] is None


def test_agreement_on_preferences_is_of_systems_by_question():
  rows = rated({"q1": [1, 1], "q2": [-1, -1], "q3": [0, 0]})
  rows += [preference("rater 0", "q1", 1, question="quality")]
  found = {row["question"]: row for row in agreement.preferences(rows, draws=100)}
  overall, quality = found["overall"], found["quality"]
  assert (overall["alpha"], overall["raters"], overall["units"]) == (1, 2, 3)
  assert (quality["alpha"], quality["raters"], quality["units"]) == (None, 1, 0)


def test_majority_and_agreement_with_a_judge():
  def level(rater, video, value):
    return answers.Level(rater, video, "a", video, value)

  given = {"v1": (1, 1, 4), "v2": (2, 3), "v3": (4,), "v4": (1, 2, 1)}
  rows = [
    level(str(k), video, value)
    for video, values in given.items()
    for k, value in enumerate(values)
  ]
  people = agreement.majority(rows)
  assert people == {"v1": 1, "v2": 3, "v3": 4, "v4": 1}
  judge = {"v1": 1, "v2": 3, "v3": 3, "v4": 2, "another": 1}
  found = agreement.with_judge(people, judge, draws=100)
  # Equal on 2 of 4; by chance 1/2 x 1/4 + 1/4 x 1/2 = 1/4.
  assert (found["videos"], found["equal"]) == (4, 0.5)
  assert found["kappa"] == pytest.approx((0.5 - 0.25) / (1 - 0.25))
  # Of the squared distances two of four are 1, the others 0.
  crossed = [(a - b) ** 2 for a, b in itertools.product((1, 3, 4, 1), (1, 3, 3, 2))]
  assert found["kappa_weighted"] == pytest.approx(1 - (2 / 4) / np.mean(crossed))
  assert agreement.with_judge({"v": 1}, {"v": 1})["kappa"] is None
  assert agreement.with_judge({"v": 1}, {"w": 1})["equal"] is None


def test_bradley_terry_of_two_systems_is_the_log_odds():
  """Seven wins, one loss and two ties: odds of 8 to 2."""
  rows = rated({f"q{k}": [x] for k, x in enumerate([1] * 7 + [-1] + [0] * 2)})
  (found,) = strengths.bradley_terry(rows, draws=50)
  gap = found["systems"]["a"]["strength"] - found["systems"]["b"]["strength"]
  assert gap == pytest.approx(math.log(8 / 2), abs=1e-6)
  assert list(found["systems"]) == ["a", "b"]


def test_bradley_terry_of_three_systems_has_the_greatest_likelihood():
  random = np.random.default_rng(1)
  true = {"a": 1.0, "b": 0.0, "c": -0.5}
  rows = []
  for query in range(80):
    for one, two in itertools.combinations(true, 2):
      won = random.random() < 1 / (1 + math.exp(true[two] - true[one]))
      outcome = 0 if random.random() < 0.2 else 1 if won else -1
      rows.append(preference("r", str(query), outcome, one, two))

  def loss(free):
    strength = dict(zip("abc", (*free, -sum(free)), strict=True))
    total = 0.0
    for row in rows:
      gap = strength[row.one] - strength[row.two]
      share = (1 + row.outcome) / 2
      total += share * np.logaddexp(0, -gap) + (1 - share) * np.logaddexp(0, gap)
    return total

  best = scipy.optimize.minimize(loss, [0.0, 0.0], tol=1e-10).x
  (found,) = strengths.bradley_terry(rows, draws=300)
  strength = found["systems"]
  assert strength["a"]["strength"] == pytest.approx(best[0], abs=1e-4)
  assert strength["b"]["strength"] == pytest.approx(best[1], abs=1e-4)
  assert sum(row["strength"] for row in strength.values()) == pytest.approx(0, abs=1e-9)
  for row in strength.values():
    assert row["low"] < row["strength"] < row["high"]
  assert found["unbounded"] == 0


def test_a_system_that_always_wins_has_no_finite_strength():
  rows = rated({f"q{k}": [1] for k in range(10)})
  (found,) = strengths.bradley_terry(rows, draws=20)
  assert found["systems"]["a"] == {"strength": None, "low": None, "high": None}
  # One loss in ten: a third of the resamples have none, so an end is not known.
  rows = rated({f"q{k}": [1 if k else -1] for k in range(10)})
  (found,) = strengths.bradley_terry(rows, draws=500)
  assert found["systems"]["a"]["strength"] == pytest.approx(math.log(9) / 2, abs=1e-6)
  assert found["systems"]["a"]["low"] is None
  assert found["unbounded"] / 500 == pytest.approx(0.9**10, abs=0.07)
