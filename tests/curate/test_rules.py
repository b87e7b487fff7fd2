import math

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from configs import curate as curate_config
from vpo_jax import errors, queries
from vpo_jax.curate import rules, table


def _reasons(texts, **changes):
  config = curate_config.get_config()
  config.rules.update(changes)
  frame = table.Measure(config)([queries.Raw(text) for text in texts])
  return frame["reason"].to_list()


@pytest.mark.parametrize(
  ("rule", "changes", "dropped", "kept"),
  [
    (rules.too_short, {"min_words": 3}, "two words -ar 16:9", "three whole words"),
    (rules.too_short, {"min_words": 3}, "两字", "三个字"),
    (rules.too_short, {}, "!!! ?? ...", "sea"),
    (rules.too_long, {"max_words": 4}, "one two three four five", "one two three four"),
    (rules.special_characters, {}, "@@## a cat $$^^ ~~|", "a cat, 4k: 'very' (soft)!"),
    (rules.url, {}, "see https://a.b/c now", "a cat com net"),
    (rules.keyword, {"keywords": ("promo",)}, "my PROMO clip", "a clip"),
    (
      rules.language,
      {"languages": ("en",)},
      "una niña corriendo por un campo de amapolas",
      "a girl running through a field of poppies",
    ),
    (rules.repeated_words, {}, "go go go go go go go", "the dog and the cat and a man"),
    (rules.repeated_characters, {}, "nooooooooooooo way", "noooo way"),
  ],
)
def test_a_rule_drops_only_what_it_describes(rule, changes, dropped, kept):
  assert _reasons([dropped, kept], **changes) == [rule.__name__, None]


def test_rules_can_be_switched_off():
  assert _reasons(["see https://a.b/c"], drop_urls=False, max_special=1.0) == [None]
  assert _reasons(["una niña corriendo por el campo"], languages=()) == [None]


def test_a_query_of_unsure_language_passes():
  assert _reasons(["xq zv"], languages=("en",)) == [None]


@pytest.mark.parametrize(
  ("choice", "text", "moved"),
  [("keep", "a cat -ar 1:1", ""), ("drop", "a cat", ""), ("move", "a cat", "-ar 1:1")],
)
def test_flags_are_kept_dropped_or_moved(choice, text, moved):
  config = curate_config.get_config()
  config.flags = choice
  row = table.Measure(config)([queries.Raw("a cat -ar 1:1")]).row(0, named=True)
  assert (row["text"], row["flags"], row["key"]) == (text, moved, "a cat")


def test_invalid_rows_are_set_aside_with_a_reason():
  config = curate_config.get_config()
  raws = [
    queries.Raw("x" * 1_000_000),
    queries.Raw("half a row", problem="line 3 has 2 fields"),
    queries.Raw("&nbsp; \x00"),
  ]
  frame = table.Measure(config)(raws)
  assert frame["aside"].to_list() == [True] * 3
  assert frame["reason"].to_list() == [
    "1000000 characters long",
    "line 3 has 2 fields",
    "empty",
  ]
  assert frame["text"].str.len_chars().max() <= 200


def test_tokens_are_counted_by_the_configured_tokenizer(tmp_path):
  model = models.WordLevel({"a": 0, "cat": 1, "?": 2}, unk_token="?")
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  for path in (tmp_path, tmp_path / "tokenizer.json"):
    change = {"tokenizer": str(path), "max_tokens": 3}
    texts = ["a cat", "a cat, a cat"]
    assert _reasons(texts, **change) == [None, "too_many_tokens"]


def test_an_invalid_tokenizer_is_reported(tmp_path):
  with pytest.raises(errors.UserError, match=r"tokenizer\.json does not exist"):
    _reasons(["a cat"], tokenizer=str(tmp_path))
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(errors.UserError, match="not a tokenizer"):
    _reasons(["a cat"], tokenizer=str(tmp_path))


def test_repaired_texts_are_marked():
  raws = [queries.Raw("a cat &amp; a dog"), queries.Raw(" a cat & a dog\n")]
  frame = table.Measure(curate_config.get_config())(raws)
  assert frame["repaired"].to_list() == [True, False]
  assert frame["id"].n_unique() == 1


def test_detoxify_scores_make_a_row_safety_related():
  config = curate_config.get_config()
  scores = [(0.1, 0.2, 0.0, 0.0, 0.9, 0.0), (0.1,) * 6, (math.nan,) * 5 + (0.6,)]
  raws = [queries.Raw("a fight", scores=each) for each in scores]
  found = table.Measure(config)(raws)
  assert found["category"].to_list() == ["safety", "general", "safety"]
  assert found["score"].to_list() == pytest.approx([0.9, 0.1, 0.6])
  config.safety.min_score.threat = 0.95
  config.safety.min_score.sexual_explicit = 0.7
  assert set(table.Measure(config)(raws)["category"]) == {"general"}
