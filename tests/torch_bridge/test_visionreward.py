import json

import numpy as np
import pytest
import tokenizers
import visionreward_model

from torch_bridge import questions
from torch_bridge.renderers import base
from torch_bridge.scorers import visionreward

QUESTIONS = [
  "is it sharp ?",
  "does it match [[prompt]] ?",
  "is the motion of the scene smooth and natural ?",
  *[f"is {word} good ?" for word in ("light", "colour", "motion", "scene", "detail")],
]
WORDS = sorted({word for q in QUESTIONS for word in q.split()} | {"cat", "dog"})
VIDEO = np.random.default_rng(0).integers(0, 255, (49, 16, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """A model directory with remote code, as in VisionReward's release."""
  folder = tmp_path_factory.mktemp("visionreward")
  visionreward_model.save(folder, WORDS, tokenizers.pre_tokenizers.WhitespaceSplit())
  (folder / "qa.txt").write_text("\n".join(QUESTIONS) + "\n")
  (folder / "weight.json").write_text(json.dumps([0.5] * len(QUESTIONS)))
  return folder


def _scorer(folder, **options):
  return visionreward.make(
    {
      "model": str(folder),
      "questions": str(folder / "qa.txt"),
      "weights": str(folder / "weight.json"),
      "options": {"trust_remote_code": True} | options,
    }
  )


@pytest.mark.parametrize(
  ("count", "fps", "expected"),
  [
    (49, 8, [0, 8, 16, 24, 32, 40, 48]),  # CogVideoX
    (1, 8, [0]),
    (9, 8, [0, 8]),
    (13, 8, [0, 8, 12]),  # the last frame, at 1.5 s, is nearest to second 2
    (81, 16, [0, 16, 32, 48, 64, 80]),  # Wan
  ],
)
def test_frames_are_those_nearest_each_whole_second(count, fps, expected):
  assert visionreward.chat_frames(count, fps) == expected


def test_a_long_video_gives_twenty_four_frames():
  assert len(visionreward.chat_frames(8 * 60, 8)) == 24


def test_the_model_is_called_as_in_the_release(directory):
  scorer = _scorer(directory)
  beats = []
  verdict = scorer.score(VIDEO, 8, "a {cat} [[prompt]]", lambda: beats.append(1))
  asked = [text for text, _ in scorer._model.seen]
  assert asked[0] == "is it sharp ?\n"
  assert asked[1] == "does it match a {cat} [[prompt]] ?\n"
  assert {shape for _, shape in scorer._model.seen} == {(3, 7, 16, 24)}
  assert len(verdict.answers()) == len(verdict.p_yes) == len(QUESTIONS)
  assert len(set(verdict.answers())) == 2
  assert beats


def _scored(scorer):
  return scorer.score(VIDEO, 8, "cat", lambda: None)


def _calls(scorer):
  """Sizes of the calls while one video is scored."""
  sizes, generate = [], scorer._model.generate

  def counted(**batch):
    sizes.append(len(batch["input_ids"]))
    return generate(**batch)

  scorer._model.generate = counted
  _scored(scorer)
  scorer._model.generate = generate
  return sizes


def test_one_question_is_asked_at_a_time(directory):
  assert _calls(_scorer(directory)) == [1] * len(QUESTIONS)


def test_batches_that_answer_differently_are_not_used(directory, capfd):
  """The model's code shifts position ids by padding."""
  alone = _scored(_scorer(directory))
  scorer = _scorer(directory, questions_at_once=4)
  assert _scored(scorer) == alone
  (warning,) = capfd.readouterr().out.splitlines()
  assert "batches of 4 questions answer differently from single ones (" in warning
  assert _calls(scorer) == [1] * len(QUESTIONS)
  assert _scored(scorer) == alone
  assert not capfd.readouterr().out


def test_batches_that_agree_are_used_after_the_first_video(directory, capfd):
  scorer = _scorer(directory, questions_at_once=3)
  scorer._model.config.shifts = False
  assert _calls(scorer) == [1] * 8 + [3, 3, 2]
  assert _calls(scorer) == [3, 3, 2]
  batched = _scored(scorer)
  alone = _scorer(directory)
  alone._model.config.shifts = False
  assert batched.answers() == _scored(alone).answers()
  np.testing.assert_allclose(batched.p_yes, _scored(alone).p_yes, atol=1e-6)
  assert not capfd.readouterr().out


def test_yes_counts_in_either_case_and_after_a_space(directory):
  scorer = _scorer(directory)
  verdict = _scored(scorer)
  for yes, chance in zip(verdict.answers(), verdict.p_yes, strict=True):
    assert yes == (chance > 0.5)  # only two tokens are likely
  yes_forms, said = set(), []
  decode = scorer._tokenizer.decode
  scorer._tokenizer.decode = lambda ids: said.append(decode(ids)) or said[-1]
  answers = _scored(scorer).answers()
  yes_forms = {word for word, yes in zip(said, answers, strict=True) if yes}
  assert answers == [word.strip().lower() == "yes" for word in said]
  assert len(yes_forms) > 1
  no = scorer._model.config.no
  scorer._tokenizer.decode = lambda ids: "no" if ids[0] in no else "Yesterday"
  assert not any(_scored(scorer).answers())


def test_the_text_and_the_frames_change_the_answer(directory):
  scorer = _scorer(directory)
  p_cat = scorer.score(VIDEO, 8, "cat", lambda: None).p_yes
  p_dog = scorer.score(VIDEO, 8, "dog", lambda: None).p_yes
  p_dark = scorer.score(VIDEO // 2, 8, "cat", lambda: None).p_yes
  changed = [i for i, q in enumerate(QUESTIONS) if questions.PROMPT in q]
  assert [i for i, (a, b) in enumerate(zip(p_cat, p_dog, strict=True)) if a != b] == (
    changed
  )
  assert all(a != b for a, b in zip(p_cat, p_dark, strict=True))


def test_remote_code_must_be_allowed(directory):
  with pytest.raises(base.ModelError, match=r"options\.trust_remote_code=True"):
    _scorer(directory, trust_remote_code=False)
  with pytest.raises(base.ModelError, match="pin the revision"):
    visionreward.make(
      {"model": "THUDM/VisionReward-Video", "options": {"trust_remote_code": True}}
    )


def test_a_model_that_cannot_be_loaded_is_reported_in_one_line(tmp_path, directory):
  (tmp_path / "config.json").write_text("{}")
  spec = {
    "model": str(tmp_path),
    "questions": str(directory / "qa.txt"),
    "weights": str(directory / "weight.json"),
    "options": {"trust_remote_code": True},
  }
  with pytest.raises(base.ModelError, match=r"requires 4\.42") as caught:
    visionreward.make(spec)
  assert "\n" not in str(caught.value)
