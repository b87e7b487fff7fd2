"""Word changes, and which queries' videos a report includes."""

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from vpo_jax import errors
from vpo_jax.evaluate import measures
from vpo_jax.evaluate.html import changes, choose

TEXT = st.text(st.sampled_from("aAbß \n.,-é猫跑\u2028قط"), max_size=30)


@hypothesis.given(TEXT, TEXT)
def test_kept_and_added_parts_are_the_prompt(query, prompt):
  parts = changes.between(query, prompt)
  assert "".join(part[1:] for part in parts if part[0] != changes.DROPPED) == prompt
  kept_or_dropped = [part[1:] for part in parts if part[0] != changes.ADDED]
  letters = "".join(filter(str.isalnum, "".join(kept_or_dropped)))
  assert letters.casefold() == "".join(filter(str.isalnum, query)).casefold()


def test_words_are_compared_without_case_and_punctuation():
  found = changes.between("a red fox, running at night", "A vivid red fox; at night.")
  assert found == ["=A ", "+vivid ", "=red fox; ", "-running", "=at night."]
  assert changes.between("猫在跑", "一只猫在滑板上") == [
    "+一只",
    "=猫在",
    "-跑",
    "+滑板上",
  ]
  assert changes.between("", "new") == ["+new"]
  assert changes.between("old", "") == ["-old"]


def rewards(*, worse=(), better=(), count=40):
  ids = [str(k) for k in range(count)]
  two = dict.fromkeys(ids, 1.0)
  two |= {query: 0.5 - k / 100 for k, query in enumerate(worse)}
  two |= {query: 2.0 + k / 100 for k, query in enumerate(better)}
  overall = measures.Measure(
    "overall", {"one": dict.fromkeys(ids, 1.0), "two": two}, "main"
  )
  return ids, overall


def test_large_gains_and_losses_and_unsafe_queries_are_included():
  ids, overall = rewards(worse=("30", "31", "32"), better=("35", "36", "37"))
  unsafe = {"one": {"20": 0.0, "21": 1.0}, "two": {"20": 0.0, "21": 0.0}}
  values = [overall, measures.Measure("unsafe videos", unsafe, "main", "%", "low")]
  pair = ("one", "two")
  assert choose.queries(ids, values, pair, 8) == {
    *("36", "37"),
    *("31", "32"),
    "21",
    *("0", "1", "2"),
  }
  assert choose.queries(ids, values, pair, 0) == set(ids)
  assert choose.queries(ids, values, pair, 99) == set(ids)
  # With the systems exchanged, gains are losses.
  assert choose.gain("37", values, pair) == -choose.gain("37", values, pair[::-1])


def test_less_is_a_gain_where_low_is_better():
  _, overall = rewards()
  values = {"one": {"0": 1.0}, "two": {"0": 0.25, "1": 0.0}}
  unsafe = measures.Measure("unsafe videos", values, "main", "%", "low")
  assert choose.gain("0", [unsafe], ("one", "two")) == 0.75
  assert choose.gain("1", [unsafe], ("one", "two")) is None
  assert choose.gain("1", [unsafe, overall], ("one", "two")) == 0.0
  level = dataclasses.replace(unsafe, name="level 2", better="")
  assert choose.gain("0", [level], ("one", "two")) is None


def test_a_negative_number_of_videos_is_one_line(make_report):
  with pytest.raises(errors.UserError, match=r"report\.videos=-1: must be 0"):
    make_report(2, videos=-1)
