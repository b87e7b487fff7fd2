import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpo_jax import errors
from vpo_jax.feedback import rewards

ANSWERED = st.lists(
  st.tuples(st.booleans(), st.floats(-1, 1).map(lambda w: round(w, 3))), min_size=1
)


@given(ANSWERED)
def test_the_two_scales_are_one_line_apart(rows):
  """S = (2R - sum of weights) / number of weights that are not zero."""
  yes, weights = zip(*rows, strict=True)
  count = sum(weight != 0 for weight in weights)
  total = rewards.reward_sum(yes, weights)
  signed = rewards.reward_signed(yes, weights)
  expected = (2 * total - sum(weights)) / count if count else 0
  assert signed == pytest.approx(expected, abs=1e-9)


def test_all_no_gives_what_users_of_visionreward_report():
  weights = [6.2772 / 29] * 29 + [0.0] * 35
  assert rewards.reward_sum([False] * 64, weights) == 0
  assert rewards.reward_signed([False] * 64, weights) == pytest.approx(
    -0.21645, abs=1e-5
  )
  better = [True, *[False] * 63]
  margin = rewards.reward_sum(better, weights)
  signed = rewards.reward_signed(better, weights) - -0.216455
  assert signed / margin * 0.5 == pytest.approx(0.0345, abs=1e-4)


def test_groups_add_up_to_the_reward():
  yes, weights = [True, False, True, True], [0.5, 1.0, 0.25, 2.0]
  groups = rewards.group_rewards(yes, weights, {"a": (0, 1), "b": (2, 3)})
  assert groups == {"a": 0.5, "b": 2.25}
  assert sum(groups.values()) == rewards.reward_sum(yes, weights)


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.data())
def test_dominance_is_strict_and_one_way(one, data):
  two = data.draw(st.lists(st.booleans(), min_size=len(one), max_size=len(one)))
  assert not rewards.dominates(one, one)
  assert not (rewards.dominates(one, two) and rewards.dominates(two, one))
  if rewards.dominates(one, two):
    assert sum(one) > sum(two)


def test_a_scorer_that_says_only_no_is_stopped_with_the_reason():
  line = r"R = 0.*-0\.21645.*transformers 4\.42.*remove /store/answers and run again"
  with pytest.raises(errors.UserError, match=line):
    rewards.check_alive([[False] * 5] * 3, [0.0] * 3, "/store/answers")
  rewards.check_alive([[False] * 5, [False] * 4 + [True]], [0.0, 1.0], "")


def test_one_reward_for_all_videos_is_stopped():
  answers = [[True, False]] * 8
  with pytest.raises(errors.UserError, match=r"same reward, 1\.5000"):
    rewards.check_alive(answers, [1.5] * 8, "")
  rewards.check_alive(answers, [1.5] * 7 + [1.0], "")


def test_named_rewards_count_by_their_weights():
  weights = rewards.dimensions(["visual quality 1", "TA -0.5"])
  assert weights == {"visual quality": 1.0, "TA": -0.5}
  scalars = {"TA": 2.0, "visual quality": 3.0, "MQ": 9.0}
  assert rewards.weighted(scalars, weights) == {"visual quality": 3.0, "TA": -1.0}
  assert rewards.weighted(scalars, {}) == scalars
  with pytest.raises(errors.UserError, match="names MQ; the scorer gives TA"):
    rewards.weighted({"TA": 1.0}, {"MQ": 1.0})
  for wrong in (["VQ"], ["VQ one"], ["VQ 1", "VQ 2"], [" 1"]):
    with pytest.raises(errors.UserError, match="must be distinct names"):
      rewards.dimensions(wrong)
