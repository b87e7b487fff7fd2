"""The reward: correct clips pass, and more damage never scores higher."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from torch_bridge import conformance
from torch_bridge.miniature import clips, queries, scorer, world

SCORER = scorer.make({"questions": str(scorer.QUESTIONS)})
WEIGHTS = np.array(SCORER.questions.weights)
COUNT = 40


@pytest.fixture(scope="module")
def matched():
  """Queries, and clips that show what they ask for."""
  random = world.generator(0)
  drawn = queries.draw(0, COUNT, unsafe_share=0.0)
  scenes = [world.draw(random, 0.0, **query.wanted) for query in drawn]
  return [query.text for query in drawn], clips.render(scenes)


def rewards(texts, frames):
  answers = [
    SCORER.score(clip, world.FPS, text, lambda: None).answers()
    for clip, text in zip(frames, texts, strict=True)
  ]
  return np.array(answers) @ WEIGHTS


def test_correct_clips_pass_every_question(matched):
  assert rewards(*matched).mean() >= 0.97 * WEIGHTS.sum()


def noise(frames, level):
  grains = np.random.default_rng(0).normal(0, (0, 20, 60)[level], frames.shape)
  return np.clip(frames + grains, 0, 255).astype(np.uint8)


def lost(frames, level):
  """Removes the object from some frames."""
  changed = frames.copy()
  count = (0, 2, 6)[level]
  changed[:, 1 : 1 + count] = changed[:, 1 : 1 + count, :, :1]
  return changed


def blur(frames, level):
  mixed = frames.astype(np.float32)
  for _ in range((0, 3, 9)[level]):
    neighbours = [np.roll(mixed, step, axis) for step in (-1, 1) for axis in (2, 3)]
    mixed = (mixed + sum(neighbours)) / 5
  return mixed.astype(np.uint8)


def shuffle(frames, level):
  order = ([*range(9)], [0, 1, 2, 5, 4, 3, 6, 7, 8], [7, 2, 5, 0, 8, 1, 6, 3, 4])
  return frames[:, order[level]]


def flashes(frames, level):
  light = 1 - (0, 0.25, 0.6)[level] * (np.arange(world.FRAMES) % 2)
  return (frames * light[:, None, None, None]).astype(np.uint8)


@pytest.mark.parametrize(
  "damage",
  [
    noise,
    shuffle,
    *(pytest.param(f, marks=pytest.mark.slow) for f in (lost, blur, flashes)),
  ],
)
def test_more_damage_scores_lower(matched, damage):
  texts, frames = matched
  means = [rewards(texts, damage(frames, level)).mean() for level in range(3)]
  assert all(more > less for more, less in itertools.pairwise(means)), means


def test_another_querys_clips_lose_only_alignment(matched):
  texts, frames = matched
  own = SCORER.score(frames[0], world.FPS, texts[0], lambda: None).answers()
  asks = "a square and a circle, striped, spotted, growing, still, in snow, at sea"
  other = SCORER.score(frames[0], world.FPS, asks, lambda: None).answers()
  changed = [
    i for i, pair in enumerate(zip(own, other, strict=True)) if len({*pair}) > 1
  ]
  assert changed
  assert set(changed) <= set(SCORER.questions.groups["alignment"])
  assert (
    rewards(texts[1:] + texts[:1], frames).mean() < rewards(texts, frames).mean() - 0.5
  )


@pytest.mark.parametrize(
  "hazard", ["splatter", pytest.param("fire", marks=pytest.mark.slow)]
)
def test_harm_is_measured_and_does_not_lower_the_reward(hazard):
  random = world.generator(1)
  drawn = queries.draw(1, COUNT, unsafe_share=0.0)
  texts = [query.text for query in drawn]
  safe = [world.draw(random, 0.0, **query.wanted) for query in drawn]
  unsafe = [dataclasses.replace(scene, hazard=hazard) for scene in safe]
  means, shares = [], []
  for scenes in (safe, unsafe):
    frames = clips.render(scenes)
    means.append(rewards(texts, frames).mean())
    scores = [
      SCORER.score(clip, world.FPS, "a thing", lambda: None).scalars for clip in frames
    ]
    shares.append([score[hazard] for score in scores])
  assert means[1] == pytest.approx(means[0], abs=0.01 * WEIGHTS.sum())
  assert max(shares[0]) < 0.02
  assert min(shares[1]) > 0.03
  rules = scorer.load_rules(str(scorer.QUESTIONS))
  assert hazard not in {rule["measure"] for rule in rules}


def test_it_keeps_the_contract(capsys):
  spec = ["--scorer=torch_bridge.miniature.scorer", f"--questions={scorer.QUESTIONS}"]
  assert conformance.main(spec) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
  ("rule", "message"),
  [
    ({"measure": "taste", "at_least": 1, "softness": 1}, "no measure 'taste'; known"),
    ({"measure": "leap", "softness": 1}, "at_least or at_most"),
    ({"measure": "leap", "at_least": 1}, "needs softness"),
  ],
)
def test_a_rule_that_cannot_be_applied_is_named(tmp_path, rule, message):
  path = tmp_path / "questions.json"
  path.write_text(json.dumps([{"group": "a", "question": "?", "weight": 1} | rule]))
  with pytest.raises(ValueError, match=message):
    scorer.make({"questions": str(path)})


def test_a_measurement_at_its_threshold_has_probability_one_half():
  at_least = {"at_least": 0.5, "softness": 0.1}
  at_most = {"at_most": 0.5, "softness": 0.1}
  assert scorer.probability(at_least, 0.5) == 0.5
  assert scorer.probability(at_least, 0.6) == pytest.approx(0.7311, abs=1e-4)
  assert scorer.probability(at_most, 0.6) == pytest.approx(0.2689, abs=1e-4)
  assert scorer.probability(at_least, 1e9) == pytest.approx(1)


def test_the_identity_is_the_revision_of_the_answers():
  assert scorer.identity({}) == SCORER.revision
