from configs import curate as curate_config
from vpo_jax.curate import near


def _duplicates(keys):
  return near.duplicates(keys, curate_config.get_config().near).tolist()


def test_a_respelling_is_a_near_duplicate_and_the_first_stays():
  keys = [
    "a cat sleeping on a warm windowsill while it rains outside",
    "two dogs running on the beach",
    "a cat sleeping on a warm window sill while it rains outside",
  ]
  assert _duplicates(keys) == [False, False, True]


def test_who_does_what_to_whom_is_no_duplicate():
  keys = ["a small dog chases a big cat", "a big cat chases a small dog"]
  assert _duplicates(keys) == [False, False]


def test_short_texts_are_compared_whole():
  assert _duplicates(["sea", "see", "sea", ""]) == [False, False, True, False]
  assert _duplicates([]) == []
