"""Protected spans: what is found in a query, and how a prompt gets what it lacks."""

import pytest

from vpo_jax import records
from vpo_jax.promises import spans
from vpo_jax.sample import generate, settings
from vpo_jax.serve import optimize

SAMPLING = settings.Settings(max_new_tokens=8)


@pytest.mark.parametrize(
  ("query", "found"),
  [
    ('a shop with the sign "OPEN 24H"', ["OPEN 24H"]),
    ("he says “I\u2019m home” and waves", ["I\u2019m home"]),
    ("ein Schild „Bäckerei“ im Regen", ["Bäckerei"]),
    ("le panneau « Bonjour » brille", ["Bonjour"]),
    ("招牌上写着「营业中」", ["营业中"]),
    ("a neon sign that reads 'No Exit', at night", ["No Exit"]),
    ("the dog's ball isn't the cat's", []),
    ("rock 'n' roll of the '90s", ["n"]),
    ('a 5" nail and a 6" nail', []),  # inches
    ('an empty "" or " " quote', []),
    ("<lora:arcane:0.8> a girl, <sks>", ["<lora:arcane:0.8>", "<sks>"]),
    ("a < b and c > d", []),
    ('"A" then <x> then "B", "A"', ["A", "<x>", "B"]),
    # Of real queries: markup of a web page, negative flags, and a query in quotes.
    ('a tree <span class="mention" title="ann">@Ann</span>', []),
    ('a shop "OPEN" <em>at night</em> <s1>', ["OPEN", "<s1>"]),
    ("<a:1> and <b-roll>", ["<a:1>", "<b-roll>"]),
    ('a grocery store in <img\n loading="lazy"\n alt="flag"', []),
    ("a play by Voltaire -NEG “UGLY, LOW RESOLUTION”", []),
    ('rain on a sign "EXIT" -neg "blurry" -ar 16:9', ["EXIT"]),
    ('a wall --no "text" -fps 24', []),
    ("“A lone warrior battles the undead.” ", []),
    ('"A" "B"', ["A", "B"]),
    ("the title “L’&#233;tincelle” appears", ["L’étincelle"]),
  ],
)
def test_spans_are_quotes_and_tags(query, found):
  assert [span.text for span in spans.find(query)] == found


def test_listed_words_are_spans_whether_the_query_has_them_or_not():
  found = spans.find('a "cat"', ["Zorblax", "cat"])
  assert [(span.text, span.kind) for span in found] == [
    ("cat", "quote"),
    ("Zorblax", "word"),
  ]


def test_what_was_pointed_out_is_found_again():
  found = spans.find('<lora:x:1> a shop "OPEN, 24H"', ["sks dog", "zxv4"])
  asked = spans.ask('<lora:x:1> a shop "OPEN, 24H"', found)
  assert spans.find(asked) == found
  assert spans.is_asked(asked)
  assert not spans.is_asked('a shop "OPEN, 24H"')


def test_what_a_prompt_lacks_is_inserted():
  found = spans.find('<lora:x:1> a shop "OPEN" and "24H"', ["sks dog"])
  prompt = "A shop stands at night. OPEN"
  lost = spans.missing(prompt, found)
  assert [span.text for span in lost] == ["<lora:x:1>", "24H", "sks dog"]
  whole = spans.insert(prompt, lost)
  expected = 'sks dog, A shop stands at night. OPEN With the words "24H". <lora:x:1>'
  assert whole == expected
  assert not spans.missing(whole, found)


def scripted(monkeypatch, *attempts):
  """Replaces the sampler by each attempt's prompts; returns what was asked."""
  asked = []

  def stream(policy, prompts, sampling, **options):
    answers = attempts[len(asked)]
    asked.append([prompt.rendered for prompt in prompts])
    for index in range(len(prompts)):
      text, _, reason = answers[index].partition("!")
      yield index, (records.Candidate(0, text, reason or "stop", 4),)

  monkeypatch.setattr(generate, "stream", stream)
  return asked


def test_a_prompt_that_lacks_a_span_is_asked_for_again_with_the_span(
  policy, monkeypatch
):
  asked = scripted(
    monkeypatch, ["A shop at night.", "A calm sea."], ['A shop with "OPEN".']
  )
  shop, sea = optimize.optimize(policy, ['a shop, "OPEN"', "the sea"], SAMPLING)
  assert (shop.prompt, shop.spans) == ('A shop with "OPEN".', {"OPEN": "kept"})
  assert (sea.prompt, sea.spans) == ("A calm sea.", {})
  assert len(asked[1]) == 1
  assert 'the prompt must contain exactly: "OPEN"' in asked[1][0]
  assert shop.rendered == asked[1][0]
  assert "must contain" not in asked[0][0]


def test_a_listed_word_that_the_query_lacks_is_pointed_out_at_once(policy, monkeypatch):
  asked = scripted(monkeypatch, ["sks, a shop at night."])
  (row,) = optimize.optimize(policy, ["a shop"], SAMPLING, keep=["sks"])
  assert "a shop (the prompt must contain exactly: sks)" in asked[0][0]
  assert row.spans == {"sks": "kept"}


def test_what_all_attempts_lack_is_inserted_and_reported(policy, monkeypatch):
  scripted(monkeypatch, *[["A shop at night."]] * optimize.ATTEMPTS)
  (row,) = optimize.optimize(policy, ['a shop, "OPEN"'], SAMPLING, keep=["sks"])
  assert row.prompt == 'sks, A shop at night. With the words "OPEN".'
  assert row.prompts == (row.prompt,)
  assert row.spans == {"OPEN": "repaired", "sks": "repaired"}
  assert row.problem is None


def test_a_prompt_with_another_problem_is_not_repaired(policy, monkeypatch):
  scripted(monkeypatch, *[["A shop at!length"]] * optimize.ATTEMPTS)
  (row,) = optimize.optimize(policy, ['a shop, "OPEN"'], SAMPLING)
  assert row.prompt == "A shop at"
  assert row.problem == "breaks off after 4 tokens"
  assert row.spans == {"OPEN": "lost"}


def test_without_the_guard_nothing_is_checked(policy, monkeypatch):
  scripted(monkeypatch, ["A shop."])
  (row,) = optimize.optimize(policy, ['a shop, "OPEN"'], SAMPLING, guard=False)
  assert (row.prompt, row.spans) == ("A shop.", {})


def test_iterations_keep_the_spans_of_the_query(policy, monkeypatch):
  asked = scripted(
    monkeypatch, ['A shop with "OPEN".'], ["A shop at night."], ['A big "OPEN" shop.']
  )
  (row,) = optimize.optimize(policy, ['a shop, "OPEN"'], SAMPLING, iterations=2)
  assert row.prompt == 'A big "OPEN" shop.'
  assert len(asked) == 3


@pytest.mark.parametrize(
  ("problems", "gains", "broken", "expected"),
  [
    ([None, None], [], ["lacks x", None], 1),
    ([None, None], [0.5, 0.1], ["lacks x", None], 1),  # what is asked for comes first
    (["bad", None], [], [None, "lacks x"], 1),
    ([None, None], [0.1, 0.5], ["lacks x", "lacks x"], 1),
    (["bad", "bad"], [], ["lacks x", None], 0),
  ],
)
def test_a_whole_prompt_is_preferred(problems, gains, broken, expected):
  assert optimize.best(problems, gains, broken) == expected
