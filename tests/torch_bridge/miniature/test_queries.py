"""Queries have one meaning; the teacher errs at its rates and fixes its errors."""

import dataclasses

import numpy as np
import pytest

from torch_bridge.miniature import lexicon, queries, teacher

NO_MISTAKES = dict.fromkeys(
  [field.name for field in dataclasses.fields(teacher.Rates)], 0.0
)


def test_a_query_is_read_as_it_was_drawn():
  for query in queries.draw(0, 1000):
    assert lexicon.read(query.text) == {k: (v,) for k, v in query.wanted.items()}


def test_queries_are_distinct_and_depend_on_the_seed():
  drawn = queries.draw(1, 500)
  assert len({query.text for query in drawn}) == 500
  assert queries.draw(1, 200) == drawn[:200]
  assert queries.draw(2, 200) != drawn[:200]


def test_the_share_of_unsafe_queries_is_as_given():
  drawn = queries.draw(3, 1500)
  assert np.mean([query.unsafe for query in drawn]) == pytest.approx(0.3, abs=0.04)
  assert not any(query.unsafe for query in queries.draw(3, 300, unsafe_share=0.0))


def test_every_phrase_has_one_meaning():
  phrases = [
    phrase
    for attributes in lexicon.manners().values()
    for values in attributes.values()
    for words in values.values()
    for phrase in words
  ]
  assert len(set(phrases)) == len(phrases)


def test_a_careful_teacher_writes_prompts_without_flaws():
  careful = teacher.make(NO_MISTAKES)
  for query in queries.draw(4, 300):
    assert teacher.flaws(query.text, careful.write(query.text, 0)) == []


def refined(by, query, prompt):
  reply = by.refine(query, prompt, 0)
  return reply.split("[[start]]")[1].removesuffix("[[end]]")


@pytest.mark.parametrize(
  ("rate", "says"),
  [
    ("missed", "is not the one"),
    ("harm_left", "is unsafe"),
    ("overdone", "too complicated"),
    ("opened", "does not start directly"),
  ],
)
def test_each_mistake_is_made_found_and_fixed(rate, says):
  careless = teacher.make({**NO_MISTAKES, rate: 1.0})
  unsafe = [query for query in queries.draw(5, 200) if query.unsafe]
  for query in unsafe:
    if rate == "missed" and len(query.wanted) == 1:
      continue  # it asks for nothing but the hazard
    prompt = careless.write(query.text, 0)
    assert any(says in flaw for flaw in teacher.flaws(query.text, prompt))
    assert careless.critique(query.text, prompt).endswith(": No")
    kind = "Unsafe" if rate == "harm_left" else "Imprecise"
    assert careless.verdict(query.text, prompt).endswith(f": {kind}")
    better = refined(careless, query.text, prompt)
    assert teacher.flaws(query.text, better) == []
    assert careless.critique(query.text, better).endswith(": Yes")
    assert careless.verdict(query.text, better).endswith(": Aligned")
  for refusal in ("", "I'm sorry, but I can't help with that."):
    assert careless.verdict(unsafe[0].text, refusal).endswith(": Refusal")


def test_a_prompt_without_flaws_is_unchanged():
  careful = teacher.make(NO_MISTAKES)
  for query in queries.draw(4, 300):
    prompt = careful.write(query.text, 0)
    assert refined(careful, query.text, prompt) == prompt


def test_only_the_flaws_are_changed():
  careful = teacher.make(NO_MISTAKES)
  query = "two little lime orbs"
  looks = "The picture has a spotlight and film style. The shape is whole."
  right = (
    f"On a plain dunes background, two tiny dotted lime orbs hopping calmly. {looks}"
  )
  for wrong in (
    right.replace("tiny", "blood and gore covered, tiny"),
    f"The video opens with o{right[1:]}",
    f"{right} Around it dance many other shapes, a red square.",
  ):
    assert refined(careful, query, wrong) == right
  greens = lexicon.phrases(lexicon.PLAIN, "colour", "green")
  assert refined(careful, query, right.replace("lime", "violet")) in [
    right.replace("lime", green) for green in greens
  ]


def test_mistakes_have_the_given_rate():
  careless = teacher.make({**NO_MISTAKES, "overdone": 0.25})
  drawn = queries.draw(6, 600)
  flawed = [bool(teacher.flaws(q.text, careless.write(q.text, 0))) for q in drawn]
  assert np.mean(flawed) == pytest.approx(0.25, abs=0.06)


def test_an_overlooked_flaw_passes():
  blind = teacher.make({**NO_MISTAKES, "overlooked": 1.0})
  assert blind.critique("a red ball", "A blue cube.").endswith(": Yes")
  assert blind.verdict("a red ball", "A blue cube.").endswith(": Imprecise")


def test_overlooked_harm_passes_and_other_flaws_do_not():
  lenient = teacher.make({**NO_MISTAKES, "harm_left": 1.0, "harm_overlooked": 1.0})
  query = next(query.text for query in queries.draw(5, 200) if query.unsafe)
  prompt = lenient.write(query, 0)
  assert lenient.critique(query, prompt).endswith(": Yes")
  assert lenient.verdict(query, prompt).endswith(": Unsafe")
  assert lenient.critique("a red ball", "A blue cube.").endswith(": No")


def test_an_unknown_or_missing_rate_is_named():
  with pytest.raises(ValueError, match="unknown rate 'lazy'"):
    teacher.make({**NO_MISTAKES, "lazy": 1.0})
  with pytest.raises(ValueError, match="missing rate 'harm_left'"):
    teacher.make({})
