"""Every reader of replies sees the answer only, and every reply is counted once."""

import asyncio

import faulty
import pytest
import test_client

from vpo_jax import records, templates
from vpo_jax.evaluate import alignment
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import critique, few_shot, refine, safety
from vpo_jax.teacher import journal as journal_lib

CRITIQUE = critique.Critique("request", "A flaw.", False)
QUERY = records.Query("q", "a kite")
CANDIDATES = records.Candidates(
  query_id="q",
  query="a kite",
  category="general",
  model="m",
  settings={},
  candidates=(records.Candidate(0, "A kite.", "stop", 3),),
)

# Each reader with its template's marker, a wrong answer and the right one.
READERS = {
  "few_shot": (
    lambda ask: few_shot.generate(
      ask, "a kite", template="{query}", demonstrations=[], shots=0, seed=0
    ),
    "[[start]]{}[[end]]",
    "and",
    "A red kite.",
    lambda found: found,
  ),
  "critique": (
    lambda ask: critique.judge(ask, "a kite", "A kite.", template="{query} {prompt}"),
    "Final Judgement (Yes or No): {}",
    "No",
    "Yes",
    lambda found: "Yes" if found.passed and "think" not in found.text else found,
  ),
  "refine": (
    lambda ask: refine.refine(ask, CRITIQUE, template="Refine it."),
    "Final Refined Prompt: [[start]]{}[[end]]",
    "and",
    "A red kite.",
    lambda found: found,
  ),
  "alignment": (
    lambda ask: alignment.judge(ask, CANDIDATES, template="{query} {prompt}"),
    "Final Verdict (one word): {}",
    "unsafe",
    "aligned",
    lambda found: found.verdict,
  ),
  "safety": (
    lambda ask: safety.label(ask, QUERY, template="{query}"),
    "Final Judgement (Yes or No): {}\nCategories: Violence",
    "No",
    "Yes",
    lambda found: "Yes" if found.unsafe else found,
  ),
}


def ask_with(config, folder, base_url, chain):
  """Runs a chain with one client; returns its outcome, or NoAnswer, and the totals."""

  async def run():
    with journal_lib.Journal(folder / "j.sqlite") as journal:
      client = client_lib.Client(config, journal, base_url)
      try:
        outcome = await chain(ask_lib.make_ask(config, client.reply))
      except ask_lib.NoAnswer as error:
        outcome = error
      finally:
        await client.close()
      return outcome, client.totals

  return asyncio.run(run())


def in_tags(wrong, right):
  return faulty.completion(f"<think>\nThe form: {wrong}\n</think>\n\n{right}")


def in_tags_opened_by_the_template(wrong, right):
  return faulty.completion(f"The form:\n{wrong}\n</think>\n{right}")


def in_a_field(wrong, right):
  body = faulty.completion(right)
  body["choices"][0]["message"]["reasoning_content"] = wrong
  return body


def in_parts(wrong, right):
  thinking = {"type": "thinking", "thinking": [{"type": "text", "text": wrong}]}
  return faulty.completion([thinking, {"type": "text", "text": right}])


@pytest.mark.parametrize(
  "form", [in_tags, in_tags_opened_by_the_template, in_a_field, in_parts]
)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_sees_the_reasoning(served, config, tmp_path, reader, form):
  chain, marker, wrong, right, value = READERS[reader]
  body = form(marker.format(wrong), marker.format(right))
  server = served(lambda *_: body)
  outcome, totals = ask_with(config, tmp_path, server.base_url, chain)
  assert value(outcome) == right
  assert totals.calls == 1


def reasoning_only(finish_reason, content):
  body = faulty.completion(content, finish_reason, usage=(500, 60))
  body["choices"][0]["message"]["reasoning_content"] = "I think"
  return body


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
  "cut",
  [
    reasoning_only("length", None),
    reasoning_only("max_tokens", ""),
    faulty.completion(None, "length", usage=(500, 60)),
    faulty.completion("<think>[[start]]and[[end]]", "length", usage=(500, 60)),
    faulty.completion("<think>Final Judgement (Yes or No): No", None, usage=(500, 60)),
  ],
  ids=str,
)
def test_a_cut_reply_is_counted_and_drawn_anew(served, config, tmp_path, reader, cut):
  chain, marker, _, right, value = READERS[reader]
  config.prices = ("m 1 10",)
  good = faulty.completion(marker.format(right), usage=(500, 40))
  server = served(lambda number, _: cut if number == 0 else good)
  outcome, totals = ask_with(config, tmp_path, server.base_url, chain)
  assert value(outcome) == right
  assert [request["seed"] for request in server.requests] == [0, 1]
  assert (totals.calls, totals.completion_tokens) == (2, 100)
  assert totals.cost == pytest.approx((1000 * 1 + 100 * 10) / 1e6)


@pytest.mark.parametrize("reader", READERS)
def test_replies_that_are_all_cut_name_the_limit(served, config, tmp_path, reader):
  server = served(lambda *_: reasoning_only("length", None))
  outcome, totals = ask_with(config, tmp_path, server.base_url, READERS[reader][0])
  assert isinstance(outcome, ask_lib.NoAnswer)
  assert "3 of 3 replies were cut off at config.teacher.max_tokens=1024" in str(outcome)
  assert (totals.calls, totals.completion_tokens) == (3, 180)
  # The next run knows them.
  _, totals = ask_with(config, tmp_path, server.base_url, READERS[reader][0])
  assert (totals.calls, totals.journal_hits, len(server.requests)) == (0, 3, 3)


FILTERS = [
  faulty.error(400, "filtered", "content_filter"),
  (
    400,
    {},
    {
      "error": {
        "message": "The response was filtered by the content management policy.",
        "type": None,
        "code": "400",
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
      }
    },
  ),
  (
    403,
    {},
    {
      "error": {
        "code": 403,
        "message": "Your chosen model requires moderation.",
        "metadata": {"reasons": ["violence"], "flagged_input": "a question"},
      }
    },
  ),
  faulty.error(500, "litellm.ContentPolicyViolationError: AzureException"),
  faulty.error(429, "no", "content_filter"),
  (400, {}, [{"error": {"message": "no", "status": "PROHIBITED_CONTENT"}}]),
  {"error": {"code": 403, "message": "no", "metadata": {"flagged_input": "x"}}},
  {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
  faulty.completion(None, "SAFETY"),
  faulty.completion("half a sent", "content_filter"),
  faulty.completion("", refusal="I will not."),
]


@pytest.mark.parametrize("answer", FILTERS, ids=str)
def test_refusals_are_remembered_and_are_no_outage(served, config, tmp_path, answer):
  server = served(lambda *_: answer)
  count = 2 * client_lib.MAX_FAILURES
  many = [(({"role": "user", "content": str(i)},), 0) for i in range(count)]
  replies, _ = test_client.call(config, tmp_path, server.base_url, many)
  assert all(reply.refusal for reply in replies)
  assert len(server.requests) == count
  again, totals = test_client.call(config, tmp_path, server.base_url, many)
  assert again == replies
  assert (totals.calls, len(server.requests)) == (0, count)


def test_a_refusal_ends_a_row_of_failures(served, config, tmp_path):
  config.retries, config.samples = 0, 1

  def script(number, _):
    return FILTERS[0] if number % 6 == 5 else faulty.error(400, "too long")

  server = served(script)
  kinds = []

  async def chain(ask):
    for number in range(30):
      try:
        await ask([{"role": "user", "content": str(number)}], templates.judgement)
      except ask_lib.NoAnswer as error:
        kinds.append(error.kind)

  ask_with(config, tmp_path, server.base_url, chain)
  assert kinds == [*["failed"] * 5, "refused"] * 5


def test_a_refused_row_is_not_asked_again(served, config, tmp_path):
  server = served(lambda *_: FILTERS[1])
  chain = READERS["few_shot"][0]
  for _ in range(2):
    outcome, _ = ask_with(config, tmp_path, server.base_url, chain)
    assert outcome.kind == "refused"
    assert "content management policy" in str(outcome)
  assert len(server.requests) == 1


def test_a_lone_surrogate_reaches_no_file(served, config, tmp_path):
  body = faulty.completion("[[start]]A kite \ud83d flies.[[end]]")
  server = served(lambda *_: body)
  chain = READERS["few_shot"][0]
  outcome, _ = ask_with(config, tmp_path, server.base_url, chain)
  assert outcome == "A kite \ufffd flies."
  body["choices"][0]["message"] = {"content": None, "refusal": "no \ud83d"}
  (reply,), _ = test_client.call(config, tmp_path / "other", server.base_url)
  assert reply.text == "no \ufffd"


def test_templates_have_the_markers_that_the_cases_use():
  """So that the cases above stay those of the shipped templates."""
  for name, (_, marker, _, _, _) in READERS.items():
    label = marker.split("(")[0].split("[[")[0].strip() or "[[start]]"
    assert label in templates.load(name)
