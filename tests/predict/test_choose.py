"""The choice of candidates respects budget, queries, verdicts and trust."""

import dataclasses
import shutil

import numpy as np
import pytest

from configs import choose as choose_config
from tests.predict import conftest
from vpo_jax import errors, records, stages
from vpo_jax.predict import choose, predictor, strategies

QUERIES, PROMPTS = 6, 5


@pytest.fixture
def workdir(trained, tmp_path):
  """Candidates of new queries; the last of each has the text of the first."""
  shutil.copytree(trained / "train_predictor", tmp_path / "train_predictor")
  rng = np.random.default_rng(7)
  rows = []
  for number in range(QUERIES):
    texts = conftest.prompts_of(rng, PROMPTS)
    candidates = [
      records.Candidate(k, text, "stop", 9) for k, text in enumerate([*texts, texts[0]])
    ]
    rows.append(
      records.Candidates(
        f"n{number}", f"new {number}", "general", "m", {}, tuple(candidates)
      )
    )
  records.write(tmp_path / "sample" / "candidates.jsonl", rows)
  return tmp_path


@pytest.fixture
def make(tiny_model):
  """`make(**changes)`: a config of the stage choose, on one device."""

  def config(**changes):
    found = choose_config.get_config()
    found.model = str(tiny_model)
    found.mesh.update(data=1, devices=1)
    found.update({"videos": 8} | changes)
    return found

  return config


def chosen(workdir):
  rows = records.read(workdir / "choose" / "candidates.jsonl", records.Candidates)
  return {
    row.query_id: {one.index: one.prompt for one in row.candidates} for row in rows
  }


def judge(workdir, passes):
  rows = records.read(workdir / "sample" / "candidates.jsonl", records.Candidates)
  judged = [
    records.Judged(
      "i", row.query_id, row.query, one.index, one.prompt, "", passes(row, one), None
    )
    for row in rows
    for one in row.candidates
  ]
  records.write(workdir / "text_pairs" / "judged.jsonl", judged)


def test_spread_renders_the_ends_of_the_most_different_queries(workdir, make):
  counts = stages.run(choose.STAGE, make(), workdir)
  assert (counts["chosen"], counts["videos"], counts["chosen_queries"]) == (8, 8, 4)
  assert counts["could_be_chosen"] == QUERIES * PROMPTS
  found = chosen(workdir)
  assert all(len(taken) == 2 for taken in found.values())
  rows = records.read(workdir / "choose" / "predictions.jsonl", choose.Prediction)
  gains = {}
  for row in rows:
    gains.setdefault(row.query_id, {})[row.index] = row.gain
    assert row.chosen == (row.index in found.get(row.query_id, {}))
  ranges = {query: max(g.values()) - min(g.values()) for query, g in gains.items()}
  assert set(found) == set(sorted(ranges, key=lambda query: -ranges[query])[:4])
  for query, taken in found.items():
    ends = {max(taken, key=gains[query].get), min(taken, key=gains[query].get)}
    values = gains[query].values()
    assert {gains[query][index] for index in ends} == {max(values), min(values)}
  rewards = [[conftest.reward_of(text) for text in t.values()] for t in found.values()]
  assert np.mean([abs(a - b) for a, b in rewards]) > 1.5


def test_what_is_chosen_keeps_its_row_and_its_index(workdir, make):
  """So that verdicts, videos and groups refer to the same candidates as before."""
  stages.run(choose.STAGE, make(), workdir)
  paths = (workdir / name / "candidates.jsonl" for name in ("choose", "sample"))
  ours, theirs = ([*records.read(path, records.Candidates)] for path in paths)
  by_id = {row.query_id: row for row in theirs}
  assert [row.query_id for row in ours] == [q for q in by_id if q in chosen(workdir)]
  for row in ours:
    assert set(row.candidates) < set(by_id[row.query_id].candidates)
    assert dataclasses.replace(row, candidates=()) == dataclasses.replace(
      by_id[row.query_id], candidates=()
    )


def test_flawed_candidates_are_not_chosen(workdir, make):
  judge(workdir, lambda row, one: row.query_id != "n0" and one.index in (1, 2, 5))
  counts = stages.run(choose.STAGE, make(videos=100, per_query=9), workdir)
  assert counts["could_be_chosen"] == 3 * (QUERIES - 1)
  assert {k for taken in chosen(workdir).values() for k in taken} == {1, 2, 5}
  assert "n0" not in chosen(workdir)


@pytest.mark.parametrize(
  ("changes", "prompts"),
  [
    ({"videos": 7}, 6),  # a single one would make no pair
    ({"videos": 7, "per_query": 3}, 7),
    ({"videos": 9, "videos_per_prompt": 2}, 4),
    ({"videos": 0, "gpu_hours": 0.1, "seconds_per_video": 60.0}, 6),
    ({"videos": 1000}, 2 * QUERIES),
    ({"videos": 1000, "per_query": 9}, QUERIES * PROMPTS),
  ],
)
@pytest.mark.parametrize("strategy", ["spread", "random"])
def test_the_budget_is_kept(workdir, make, strategy, changes, prompts):
  counts = stages.run(choose.STAGE, make(strategy=strategy, **changes), workdir)
  assert counts["chosen"] == prompts
  sizes = [len(taken) for taken in chosen(workdir).values()]
  assert min(sizes) >= 2
  assert max(sizes) <= changes.get("per_query", 2)


def distrust(workdir, accuracy):
  path = workdir / "train_predictor" / predictor.FILE
  dataclasses.replace(predictor.load(path), accuracy=accuracy).save(path)


@pytest.mark.parametrize(
  ("accuracy", "reason"), [(0.55, "ranked 0.55 of the"), (np.nan, "no pair")]
)
def test_a_predictor_without_accuracy_is_not_used(
  workdir, make, capfd, accuracy, reason
):
  distrust(workdir, accuracy)
  with pytest.raises(errors.UserError, match=f"{reason}.*fallback=random"):
    stages.run(choose.STAGE, make(), workdir)
  assert not (workdir / "choose").exists()
  counts = stages.run(choose.STAGE, make(fallback="random"), workdir)
  assert counts["strategy"] == "random"
  assert reason in capfd.readouterr().err


def test_a_random_choice_needs_no_predictor(workdir, make):
  shutil.rmtree(workdir / "train_predictor")
  config = make(strategy="random", model="no-such-model")
  stages.run(choose.STAGE, config, workdir)
  first = chosen(workdir)
  assert len(first) == 4
  shutil.rmtree(workdir / "choose")
  config.seed = 1
  stages.run(choose.STAGE, config, workdir)
  assert chosen(workdir) != first


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"videos": 0}, "either config.videos or config.gpu_hours"),
    ({"gpu_hours": 1.0}, "either config.videos or config.gpu_hours"),
    ({"videos": 0, "gpu_hours": 1.0}, "config.seconds_per_video=0.0"),
    ({"videos": 1}, "budget is 1 videos"),
    ({"per_query": 1}, "config.per_query=1"),
    ({"videos_per_prompt": 0}, "config.videos_per_prompt=0"),
    ({"strategy": "best"}, "config.strategy='best'"),
    ({"fallback": "all"}, "config.fallback='all'"),
    ({"precision": "bfloat16"}, "other precision"),
  ],
)
def test_values_without_meaning_are_refused(workdir, make, changes, message):
  with pytest.raises(errors.UserError, match=message):
    stages.run(choose.STAGE, make(**changes), workdir)


PREDICTIONS = {0: (0.5, 1.0), 1: (-1.0, 3.0), 2: (0.4, 2.0), 3: (0.1, 4.0)}
UNKNOWN = {4: (None, None)}


@pytest.mark.parametrize(
  ("strategy", "order", "pair"),
  [
    ("spread", [0, 1, 2, 3], 0.75),
    ("promising", [0, 2, 3, 1], 0.45),
    ("uncertain", [3, 1, 2, 0], 3.5),
  ],
)
def test_the_order_of_each_strategy(strategy, order, pair):
  ranked = strategies.rank(strategy, 0, "q", PREDICTIONS | UNKNOWN)
  assert [index for _, index in ranked] == order
  values = [value for value, _ in ranked]
  assert values[:2] == pytest.approx([pair, pair])
  assert values == sorted(values, reverse=True)


def test_a_query_without_two_known_candidates_is_not_chosen():
  one = strategies.rank("spread", 0, "q", {0: (9.0, 1.0)} | UNKNOWN)
  two = strategies.rank("spread", 0, "r", PREDICTIONS)
  assert strategies.choose([[], one, two], 9, 3) == [set(), set(), {0, 1, 2}]
