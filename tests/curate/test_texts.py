import hypothesis
import pytest
from hypothesis import strategies

from vpo_jax.curate import language, repair, rules
from vpo_jax.promises import query_flags as flags


@pytest.mark.parametrize(
  ("damaged", "repaired"),
  [
    ("&quot;a cat&#39;s &amp; a dog&quot;", '"a cat\'s & a dog"'),
    ("&amp;#39;twice&amp;#39;", "'twice'"),
    ("cafÃ© at night", "café at night"),
    ("a\x00 cat\x1b[31m red\x07", "a cat red"),
    ("one\r\ntwo\u2028three", "one\ntwo\nthree"),
    ("\ufeff  a cat ", "a cat"),
    ("“curly” ﬁsh ｗide", "“curly” ﬁsh ｗide"),
  ],
)
def test_only_damage_is_repaired(damaged, repaired):
  assert repair.repair(damaged) == repaired


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(strategies.text(max_size=60))
def test_repair_is_idempotent(text):
  once = repair.repair(text)
  assert repair.repair(once) == once


def test_lost_characters_and_empty_texts_cannot_be_repaired():
  assert "U+FFFD" in repair.problem("caf\ufffd")
  assert repair.problem("") == "empty"
  assert repair.problem("café") == ""


@pytest.mark.parametrize(
  ("text", "bare", "found"),
  [
    ("a cat -ar 16:9 -motion 3", "a cat", "-ar 16:9 -motion 3"),
    ("a cat --ar 9:16 --fps 24", "a cat", "--ar 9:16 --fps 24"),
    ("a cat -camera zoom in on it", "a cat on it", "-camera zoom in"),
    ("a cat -neg blur, bad hands -seed 7", "a cat", "-neg blur, bad hands -seed 7"),
    ("a cat — ar 16:9, at night", "a cat at night", "— ar 16:9"),
    ("a cat  Message: HELLO (Font: MODERN)", "a cat", "Message: HELLO (Font: MODERN)"),
    ("a man --no hat", "a man", "--no hat"),
    ("-ar 16:9", "", "-ar 16:9"),
    ("plan - b, half-art, semi-camera", "plan - b, half-art, semi-camera", ""),
    ("20 - 11 coins = 9 coins", "20 - 11 coins = 9 coins", ""),
    ("a well-known place -slowly", "a well-known place -slowly", ""),
  ],
)
def test_flags_are_split_from_the_text(text, bare, found):
  assert flags.split(text) == (bare, found)


@pytest.mark.parametrize(
  ("text", "code"),
  [
    ("a cat sleeping on a warm windowsill while it rains", "en"),
    ("una niña corriendo por un campo de amapolas", "es"),
    ("старый трамвай едет по осеннему городу", "ru"),
    ("下雪的夜晚，一个小女孩提着灯笼走在古镇的石板路上", "zh"),
    ("xq zv", rules.UNSURE),
    ("", rules.UNSURE),
    ("a\x00b \ufdd0", rules.UNSURE),
  ],
)
def test_languages_are_detected(text, code):
  assert language.detect(text) == code
