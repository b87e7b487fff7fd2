"""D_text has refined > original for the flawed candidates only."""

import faulty
import pytest

from configs import text_pairs as text_pairs_config
from vpo_jax import errors, records, stages
from vpo_jax.feedback import text_pairs

GOOD = "A red fox runs across deep snow at dusk."
BAD = [
  "A brown dog runs across deep snow at dusk.",
  "The video opens with a red fox.",
  "A red fox runs across deep",
]


def judge(number, body):
  """Passes only the prompt GOOD, and only for a query without flags."""
  first = body["messages"][0]["content"]
  query, _, prompt = first.partition("User Query:")[2].partition("Video Prompt:")
  if len(body["messages"]) == 3:
    return f"Final Refined Prompt: [[start]]Refined: {prompt.strip()[1:20]}.[[end]]"
  passed = GOOD in prompt and "-camera" not in query
  return f"Final Judgement (Yes or No): {'Yes' if passed else 'No'}"


def write(workdir, prompts=(GOOD, *BAD), queries=("a red fox in the snow",), flags=""):
  rows = [
    records.Candidates(
      query_id=records.row_id(query),
      query=query,
      category="general",
      model="m",
      settings={},
      candidates=tuple(
        records.Candidate(index, prompt, "stop", 50)
        for index, prompt in enumerate(prompts)
      ),
      flags=flags,
    )
    for query in queries
  ]
  records.write(workdir / "sample" / "candidates.jsonl", rows)


@pytest.fixture
def config():
  config = text_pairs_config.get_config()
  config.teacher.api_key_env = ""
  with faulty.running(faulty.Server(judge)) as server:
    config.teacher.base_url = server.base_url
    yield config


def read(workdir, name, kind):
  return list(records.read(workdir / "text_pairs" / name, kind))


def test_the_judge_gets_the_query_that_the_policy_was_given(config, tmp_path):
  """Flags that curation moved out of the query are not judged by."""
  write(tmp_path, [GOOD], flags="-camera zoom in")
  stages.run(text_pairs.STAGE, config, tmp_path)
  (row,) = read(tmp_path, "judged.jsonl", records.Judged)
  assert row.passed
  assert row.query == "a red fox in the snow"


def test_flawed_candidates_lose_to_their_refinement(config, tmp_path):
  write(tmp_path)
  config.pairs = "all"
  counts = stages.run(text_pairs.STAGE, config, tmp_path)
  judged = read(tmp_path, "judged.jsonl", records.Judged)
  assert [row.passed for row in judged] == [True, False, False, False]
  assert [row.prompt for row in judged] == [GOOD, *BAD]
  pairs = read(tmp_path, "pairs.jsonl", records.Pair)
  assert [pair.rejected for pair in pairs] == BAD
  for pair, row in zip(pairs, judged[1:], strict=True):
    assert pair.chosen == row.refined
    assert pair.chosen.startswith("Refined: ")
    assert (pair.source, pair.margin) == ("text", None)
  wanted = {"candidates": 4, "flawed": 3, "refined": 3, "pairs": 3, "set_aside": 0}
  assert {name: counts[name] for name in wanted} == wanted
  assert counts["calls"] == 4 + 3


def test_one_pair_per_query_is_drawn_by_seed_and_id(config, tmp_path):
  queries = [f"a red fox in the snow {i}" for i in range(12)]
  write(tmp_path, queries=queries)
  counts = stages.run(text_pairs.STAGE, config, tmp_path)
  pairs = read(tmp_path, "pairs.jsonl", records.Pair)
  assert counts["pairs"] == len({pair.query for pair in pairs}) == len(pairs) == 12
  judged = read(tmp_path, "judged.jsonl", records.Judged)
  # The draw does not depend on the position alone.
  assert len({BAD.index(pair.rejected) for pair in pairs if pair.rejected in BAD}) > 1
  # The draw does not depend on other queries.
  last = [row for row in judged if row.query == queries[-1]]
  assert text_pairs.select(last, "one", config.seed) == [
    pair for pair in pairs if pair.query == queries[-1]
  ]


def judged(refined, index=0):
  return records.Judged(
    str(index), "q", "a query", index, "the prompt", "c", False, refined
  )


@pytest.mark.parametrize("refined", [None, "", " \n ", "the prompt", "the\nprompt"])
def test_an_unusable_refinement_makes_no_pair(refined):
  rows = [judged(refined), judged("better", 1)]
  for mode in ("one", "all"):
    (pair,) = text_pairs.select(rows, mode, 0)
    assert pair.chosen == "better"
  assert text_pairs.select(rows[:1], "one", 0) == []


def test_newlines_are_joined_or_drop_the_pair():
  """The release drops such refinements, the paper does not say."""
  rows = [judged("two\nlines")]
  (pair,) = text_pairs.select(rows, "all", 0)
  assert pair.chosen == "two lines"
  assert text_pairs.select(rows, "all", 0, drop_newlines=True) == []


@pytest.mark.parametrize(("drop", "pairs"), [(False, 1), (True, 0)])
def test_the_config_decides_about_newlines(config, tmp_path, drop, pairs):
  write(tmp_path, ["A brown dog\nruns across snow."])
  config.drop_newlines = drop
  counts = stages.run(text_pairs.STAGE, config, tmp_path)
  assert (counts["refined"], counts["pairs"]) == (1, pairs)


def test_equal_candidates_are_judged_once(config, tmp_path):
  write(tmp_path, prompts=[BAD[0]] * 4)
  counts = stages.run(text_pairs.STAGE, config, tmp_path)
  assert counts["calls"] == 2
  assert counts["flawed"] == counts["candidates"] == 4


def test_invalid_input_is_a_one_line_error(config, tmp_path):
  with pytest.raises(errors.UserError, match=r"candidates\.jsonl does not exist"):
    stages.run(text_pairs.STAGE, config, tmp_path)
  write(tmp_path, queries=())
  with pytest.raises(errors.UserError, match="holds no candidates"):
    stages.run(text_pairs.STAGE, config, tmp_path)
  config.pairs = "some"
  with pytest.raises(errors.UserError, match="must be 'one' or 'all'"):
    stages.run(text_pairs.STAGE, config, tmp_path)
