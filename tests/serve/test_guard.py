"""The guard rejects unusable answers and accepts prompts."""

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
  demonstrations = [row["prompt"] for row in templates.demonstrations()]
  for text in (GOOD, "A cat.", *demonstrations):
    assert guard.problem(answer(text)) is None, text


@pytest.mark.parametrize(
  ("text", "language"),
  [
    ("Eine getigerte Katze steht auf einem roten Skateboard und rollt", "German"),
    (
      "Un gato naranja está de pie sobre una patineta roja y rueda despacio por una"
      " calle soleada, mientras la cámara lo sigue desde un lado.",
      "Spanish",
    ),
    ("一只橘猫站在红色滑板上，沿着阳光明媚的街道缓缓滑行，镜头从侧面跟随。", "Chinese"),
    ("Рыжая кошка стоит на красном скейтборде и медленно катится по улице", "Russian"),
    (
      "赤いスケートボードに乗った猫が、日当たりの良い通りをゆっくりと進む。",
      "Japanese",
    ),
    ("قطة برتقالية تقف على لوح تزلج أحمر وتتحرك ببطء في شارع مشمس", "Arabic"),
  ],
)
def test_another_language_is_rejected(text, language):
  assert f"is in {language}, not in 'en'" in guard.problem(answer(text))
  assert guard.problem(answer(text), "") is None
  assert guard.problem(answer(GOOD), "de") == "is in English, not in 'de'"


@pytest.mark.parametrize(
  "text",
  [
    "A neon sign says 你好世界 over a rainy street in Shibuya; people pass below it.",
    "Señor García dances salsa in Guadalajara while a mariachi band plays behind him.",
    "A samurai (侍) bows before Mount Fuji as cherry blossoms fall around him.",
    "Katze.",
    "Tokyo, Osaka, Kyoto.",
    "\x00\x01 a cat",
  ],
)
def test_names_and_quotations_in_another_language_pass(text):
  assert guard.problem(answer(text)) is None
