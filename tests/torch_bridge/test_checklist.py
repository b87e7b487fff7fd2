import json

import numpy as np
import pytest

from torch_bridge import questions
from torch_bridge.scorers import base, checklist, measures

RNG = np.random.default_rng(0)
SCENE = np.kron(RNG.integers(40, 220, (8, 8, 3)), np.ones((6, 6, 1)))


def _video(frames):
  return measures.Frames(np.clip(np.stack(frames), 0, 255).astype(np.uint8))


def _still(scene=SCENE):
  return _video([scene] * 9)


def _panning():
  return _video([np.roll(SCENE, step, axis=1) for step in range(9)])


def _gliding():
  columns = np.arange(48)[None, :, None] * np.ones((48, 1, 3))
  return _video([128 + 90 * np.sin((columns - step) / 8) for step in range(9)])


def test_measures_see_what_they_are_named_for():
  grey = SCENE.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
  noisy = [SCENE + RNG.normal(0, 25, SCENE.shape) for _ in range(9)]
  blinking = _video([SCENE * (1 if step % 2 else 0.7) for step in range(9)])
  trembling = _video([np.roll(SCENE, step % 2, axis=1) for step in range(9)])
  scene_cut = _video([SCENE] * 4 + [np.rot90(SCENE, 2)] * 5)
  still, panning = _still(), _panning()
  assert measures.exposure(_still(SCENE * 0.3)) < measures.exposure(still)
  assert measures.clipping(_still(SCENE * 3)) > measures.clipping(still) == 0
  assert measures.contrast(_still(SCENE * 0.5)) < measures.contrast(still)
  assert measures.sharpness(_still(SCENE * 0.5)) < measures.sharpness(still)
  assert measures.detail(_still(np.full_like(SCENE, 99))) == 0 < measures.detail(still)
  assert measures.colourfulness(_still(grey)) < 1e-3 < measures.colourfulness(still)
  assert measures.noise(_video(noisy)) > 2 * measures.noise(still)
  assert measures.flicker(blinking) > 10 * measures.flicker(panning)
  assert measures.motion(panning) > measures.motion(still) == 0
  assert measures.moving_share(panning) > 0.5 > measures.moving_share(still) == 0
  assert measures.jerk(trembling) > 1.9 > 0.5 > measures.jerk(_gliding())
  assert measures.jump(scene_cut) > 5 > measures.jump(panning)
  assert measures.steadiness(panning) < measures.steadiness(still) == pytest.approx(1)
  assert measures.persistence(scene_cut) < measures.persistence(still)
  blank_middle = SCENE.copy()
  blank_middle[16:32, 16:32] = 128
  assert measures.centring(_still(blank_middle)) < 0.1 < measures.centring(still)


def test_a_measurement_at_its_threshold_is_even():
  at_least = {"measure": "motion", "at_least": 0.5, "softness": 0.1}
  at_most = {"measure": "motion", "at_most": 0.5, "softness": 0.1}
  assert checklist.probability(at_least, 0.5) == 0.5
  assert checklist.probability(at_least, 0.6) == pytest.approx(0.7311, abs=1e-4)
  assert checklist.probability(at_most, 0.6) == pytest.approx(0.2689, abs=1e-4)
  assert checklist.probability(at_least, 1e9) == pytest.approx(1)


def test_yes_is_a_probability_above_one_half_for_every_question():
  scorer = checklist.make({})
  panning = np.stack([np.roll(SCENE, step, axis=1) for step in range(9)])
  verdict = scorer.score(panning.astype(np.uint8), 8, "a query", lambda: None)
  assert len(verdict.p_yes) == len(scorer.asked.texts)
  assert verdict.answers() == [p > 0.5 for p in verdict.p_yes]
  assert any(verdict.answers())
  assert not all(verdict.answers())


def test_the_checklists_scale_is_visionrewards():
  asked = base.asked({})
  assert 6 < sum(asked.weights) < 7
  members = sorted(i for group in asked.groups.values() for i in group)
  assert members == list(range(len(asked.texts)))


def test_text_questions_need_as_many_weights(tmp_path):
  (tmp_path / "qa.txt").write_text("Is it [[prompt]]?\nIs it sharp?\n")
  (tmp_path / "w.json").write_text("[1.0, 0.5]")
  (tmp_path / "w.txt").write_text("1.0\n")
  asked = questions.load(str(tmp_path / "qa.txt"), str(tmp_path / "w.json"))
  assert asked.texts == ("Is it [[prompt]]?", "Is it sharp?")
  assert asked.weights == (1.0, 0.5)
  with pytest.raises(ValueError, match=r"2 questions.* 1 weights"):
    questions.load(str(tmp_path / "qa.txt"), str(tmp_path / "w.txt"))
  with pytest.raises(ValueError, match="needs a weight file"):
    questions.load(str(tmp_path / "qa.txt"))
  with pytest.raises(ValueError, match=r"none\.json"):
    questions.load(str(tmp_path / "none.json"))


def test_sixty_four_questions_have_visionrewards_groups(tmp_path):
  (tmp_path / "qa.txt").write_text("\n".join(f"q{i}?" for i in range(64)))
  (tmp_path / "w.txt").write_text("\n".join(["0.1"] * 64))
  asked = questions.load(str(tmp_path / "qa.txt"), str(tmp_path / "w.txt"))
  members = sorted(i for group in asked.groups.values() for i in group)
  assert members == list(range(64))
  assert asked.groups["alignment"] == (0, 1, 2, 3)
  assert asked.groups["safety"] == (60, 61, 62, 63)


def test_a_query_is_data_in_a_question():
  query = "a [[prompt]] {x} \\1"
  assert questions.fill("Does [[prompt]] show?", query) == f"Does {query} show?"


def test_a_rule_that_cannot_be_applied_is_refused(tmp_path):
  rule = {
    "question": "?",
    "weight": 1,
    "group": "g",
    "measure": "beauty",
    "softness": 1,
  }
  (tmp_path / "q.json").write_text(json.dumps([rule | {"at_least": 1}]))
  with pytest.raises(ValueError, match="no measure 'beauty'; there are"):
    checklist.make({"questions": str(tmp_path / "q.json")})
  (tmp_path / "q.json").write_text(json.dumps([rule | {"measure": "motion"}]))
  with pytest.raises(ValueError, match="at_least or at_most"):
    checklist.make({"questions": str(tmp_path / "q.json")})
