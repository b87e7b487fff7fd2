from configs import curate as curate_config
from vpo_jax.curate import near_duplicates


def _duplicates(keys):
  return near_duplicates.find(keys, curate_config.get_config().near).tolist()


def test_the_first_of_two_spellings_is_kept():
  keys = [
    "a cat sleeping on a warm windowsill while it rains outside",
    "two dogs running on the beach",
    "a cat sleeping on a warm window sill while it rains outside",
  ]
  assert _duplicates(keys) == [False, False, True]


def test_reordered_words_are_not_a_duplicate():
  keys = ["a small dog chases a big cat", "a big cat chases a small dog"]
  assert _duplicates(keys) == [False, False]


def test_short_texts_must_be_equal():
  assert _duplicates(["sea", "see", "sea", ""]) == [False, False, True, False]
  assert _duplicates([]) == []
