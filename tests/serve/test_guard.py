"""The guard finds what is no prompt, and lets prompts through."""

import pytest

from vpo_jax import records, templates
from vpo_jax.serve import guard


def answer(text, finish_reason="stop"):
  return records.Candidate(0, text, finish_reason, 20)


GOOD = (
  "A ginger cat stands on a red skateboard and rolls slowly down a sunlit street, its"
  " tail up for balance. The camera follows from the side at the height of the wheels,"
  " and long shadows of palm trees slide over the cat, the board and the warm asphalt."
)


@pytest.mark.parametrize(
  ("text", "finish_reason", "found"),
  [
    (" ", "stop", "is empty"),
    ("...", "stop", "is empty"),
    (GOOD, "length", "breaks off"),
    (GOOD + " <|im_end|>", "stop", "template marker"),
    ("Video Prompt: " + GOOD, "stop", "template marker"),
    ("[[start]]" + GOOD, "stop", "template marker"),
    ("The cat rides. " * 4, "stop", "repeats"),
    ("a" * 40, "stop", "repeats"),
    ("the camera moves in and out of the frame, " * 8, "stop", "repeats"),
  ],
)
def test_a_problem_is_named(text, finish_reason, found):
  assert found in guard.problem(answer(text, finish_reason))


def test_good_prompts_pass():
  shown = [row["prompt"] for row in templates.demonstrations()]
  assert [guard.problem(answer(text)) for text in [GOOD, "A cat.", *shown]] == [
    None
  ] * (2 + len(shown))
