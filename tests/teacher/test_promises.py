"""A prompt that drops a protected span, or is too long for its target, is flawed."""

import asyncio

import pytest

from configs import build_sft as build_sft_config
from tests.serve.test_promises import words
from vpo_jax import records, templates
from vpo_jax.feedback import text_pairs
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import build_sft
from vpo_jax.teacher import texts as texts_lib

QUERY = records.Query("1", 'a shop with the sign "OPEN"', "general")
YES = "Good. Final Judgement (Yes or No): Yes"
NO = "Dull. Final Judgement (Yes or No): No"
TEXTS = texts_lib.load(build_sft_config.get_config())


def scripted(*replies):
  """An `ask` that answers with the replies in turn, and what it was sent."""
  sent, left = [], list(replies)

  async def ask(messages, read):
    sent.append(messages)
    reply = left.pop(0)
    return read(reply), reply

  return ask, sent


def example(ask, target=None):
  return asyncio.run(
    build_sft.example(
      ask,
      QUERY,
      texts=TEXTS,
      demonstrations=templates.demonstrations(),
      config=build_sft_config.get_config(),
      target=target,
    )
  )


def marked(prompt):
  return f"[[start]]{prompt}[[end]]"


def test_a_dropped_span_is_refined_although_the_judge_passes_it():
  ask, sent = scripted(marked("A shop."), YES, marked('A shop, "OPEN".'))
  found = example(ask)
  assert found.prompt == 'A shop, "OPEN".'
  assert found.critique == (
    'The prompt lacks "OPEN".\n\nFinal Judgement (Yes or No): No'
  )
  assert sent[2][1] == {"role": "assistant", "content": found.critique}


def test_the_judges_own_flaws_stay_in_the_critique():
  ask, _ = scripted(marked("A shop."), NO, marked('A shop, "OPEN".'))
  assert example(ask).critique == f'The prompt lacks "OPEN".\n\n{NO}'


def test_a_kept_span_changes_nothing():
  ask, sent = scripted(marked('A shop, "OPEN".'), YES)
  found = example(ask)
  assert (found.critique, found.refined) == (YES, None)
  assert len(sent) == 2


def test_a_refinement_that_drops_the_span_again_is_set_aside():
  ask, _ = scripted(marked("A shop."), YES, marked("A big shop."))
  with pytest.raises(ask_lib.NoAnswer, match='the refinement lacks "OPEN"'):
    example(ask)


def test_a_prompt_that_the_target_cannot_read_is_refined():
  target = words(4, notes="Be brief.")
  ask, sent = scripted(
    marked('A very big shop with "OPEN".'), YES, marked('A shop, "OPEN".')
  )
  found = example(ask, target)
  assert found.prompt == 'A shop, "OPEN".'
  assert found.critique.startswith("The prompt has 7 tokens, of which tiny reads 5.")
  assert "\nBe brief.\n" in sent[0][0]["content"]


def test_candidates_are_judged_alike():
  candidate = records.Candidate(0, "A shop.", "stop", 3)
  row = records.Candidates("1", QUERY.text, "general", "m", {}, (candidate,))
  item = text_pairs._Item(row, candidate)
  for refined, expected in (('A shop, "OPEN".', True), ("A big shop.", False)):
    ask, _ = scripted(YES, marked(refined))
    judged = asyncio.run(text_pairs.check(ask, item, texts=TEXTS, second=False))
    assert not judged.passed
    assert judged.refined == (refined if expected else None)
