import json

import pytest

from configs import merge_pairs
from vpo_jax import errors, records, stages
from vpo_jax.data import forms
from vpo_jax.feedback import merge_pairs as merge


def _pair(query, chosen="good", rejected="bad", source="text"):
  return records.Pair(records.row_id(query), query, chosen, rejected, source)


TEXT = [_pair("a"), _pair("a", rejected="worse"), _pair("b")]
VIDEO = [_pair("c", source="video"), _pair("b", source="video"), _pair("a", "x", "y")]


def test_the_union_has_no_pair_twice_and_text_comes_first():
  pairs = merge.union(TEXT, VIDEO)
  assert pairs == [*TEXT, VIDEO[0], VIDEO[2]]
  assert [pair.source for pair in pairs if pair.query == "b"] == ["text"]


def test_the_release_keeps_a_querys_text_pair_only():
  pairs = merge.one_per_query(merge.union(TEXT, VIDEO))
  assert [(pair.query, pair.source) for pair in pairs] == [
    ("a", "text"),
    ("b", "text"),
    ("c", "video"),
  ]


@pytest.mark.parametrize(
  ("share", "counts"),
  [(None, (30, 50)), (0.0, (0, 50)), (1.0, (30, 0)), (0.5, (30, 30)), (0.2, (12, 50))],
)
def test_a_share_of_text_pairs_keeps_as_many_pairs_as_it_can(share, counts):
  text, video = (
    [_pair(f"{kind}{i}") for i in range(n)] for kind, n in (("t", 30), ("v", 50))
  )
  kept = merge.mix(text, video, share, seed=0)
  assert tuple(map(len, kept)) == counts
  assert all(
    pair in part for part, own in zip((text, video), kept, strict=True) for pair in own
  )


def test_the_files_are_what_the_ecosystem_reads(tmp_path):
  query = 'braces {query} and "quotes"'
  records.write(tmp_path / "text_pairs" / "pairs.jsonl", [_pair(query), _pair("b")])
  records.write(tmp_path / "video_pairs" / "pairs.jsonl", VIDEO)
  counts = stages.run(merge.STAGE, merge_pairs.get_config(), tmp_path)
  assert counts["train"] + counts["heldout"] + counts["dropped"] == 5
  rows = []
  for name in ("train", "heldout"):
    rows += json.loads((tmp_path / "merge_pairs" / f"{name}.json").read_text())
  assert all(row.keys() == {"messages", "chosen", "rejected"} for row in rows)
  row = next(row for row in rows if query in row["messages"][0]["content"])
  assert [turn["role"] for turn in row["messages"]] == ["user"]
  assert row["chosen"] == {"role": "assistant", "content": "good"}
  assert row["rejected"] == {"role": "assistant", "content": "bad"}


def test_no_pair_at_all_is_said(tmp_path):
  for stage in ("text_pairs", "video_pairs"):
    records.write(tmp_path / stage / "pairs.jsonl", [])
  with pytest.raises(errors.UserError, match="no pair in"):
    stages.run(merge.STAGE, merge_pairs.get_config(), tmp_path)


def test_released_preference_rows_are_read_as_pairs(tmp_path):
  """And what the stage wrote itself comes back as it was."""
  records.write(tmp_path / "text_pairs" / "pairs.jsonl", TEXT)
  records.write(tmp_path / "video_pairs" / "pairs.jsonl", [])
  config = merge_pairs.get_config()
  config.heldout = 0.0
  stages.run(merge.STAGE, config, tmp_path)
  rows = json.loads((tmp_path / "merge_pairs" / "train.json").read_text())
  bad = [{"messages": []}, rows[0] | {"rejected": {}}, "a cat"]
  (tmp_path / "released.json").write_text(json.dumps([*rows, *bad]))
  pairs, aside = merge.read(tmp_path / "released.json", "text")
  assert pairs == TEXT
  assert len({row.id for row in aside}) == len(aside) == 3
  assert [row.reason for row in aside] == [
    "row 4: chosen or rejected is missing; rows have " + forms.FORMS["dpo"],
    "row 5: rejected has a message with role None, which is not read",
    "row 6: not a JSON object; rows have " + forms.FORMS["dpo"],
  ]
  (tmp_path / "released.json").write_text("[")
  with pytest.raises(errors.UserError, match=r"released\.json:1: not JSON"):
    merge.read(tmp_path / "released.json", "text")


def test_rows_have_the_instruction_that_the_candidates_were_sampled_with(tmp_path):
  """Unless the config names another; it is stored beside the rows."""
  records.write(tmp_path / "text_pairs" / "pairs.jsonl", TEXT)
  records.write(tmp_path / "video_pairs" / "pairs.jsonl", [])
  sampled, mine = tmp_path / "sample" / "instruction.txt", tmp_path / "mine.txt"
  sampled.parent.mkdir()
  sampled.write_text("Sampled: {query}")
  mine.write_text("Mine: {query}")
  config = merge_pairs.get_config()
  for path, start in (("", "Sampled: "), (str(mine), "Mine: ")):
    config.instruction = path
    stages.run(merge.STAGE, config, tmp_path)
    rows = json.loads((tmp_path / "merge_pairs" / "train.json").read_text())
    assert all(row["messages"][0]["content"].startswith(start) for row in rows)
    stored = (tmp_path / "merge_pairs" / "instruction.txt").read_text()
    assert stored == start + "{query}"
