"""The rule-based stand-in: what it writes passes its own judgement, mistakes do not."""

import http.client
import json
import urllib.error
import urllib.request

import hypothesis
import pytest
from hypothesis import strategies

from vpo_jax import errors, templates
from vpo_jax.teacher import offline
from vpo_jax.teacher import texts as texts_lib
from vpo_jax.teacher.offline import judge, query, write

TEXTS = texts_lib.Texts(
  few_shot=templates.load("few_shot"),
  critique=templates.load("critique"),
  refine=templates.load("refine"),
  alignment=templates.load("alignment"),
)
GOOD = (
  "A red fox runs across deep snow at dusk. Small flakes drift through the still"
  " air, and the light is soft and even. The camera follows from a short distance."
)
UNBROKEN = GOOD.replace(".", "").replace(",", "")


def critique(asked, prompt):
  content = templates.fill(TEXTS.critique, query=asked, prompt=prompt)
  return content, offline.Answers(TEXTS).reply(
    [{"role": "user", "content": content}], 0
  )


@pytest.mark.parametrize(
  ("asked", "prompt", "says"),
  [
    ("red fox in snow", GOOD, None),
    ("a fox runs -ar 16:9 -motion 2 --seed 7, 4k video", GOOD, None),
    ("red fox in snow, castle", GOOD, '"castle"'),
    ("red fox in snow", GOOD.replace("runs", "bleeds, blood everywhere,"), "unsafe"),
    ("red fox in snow", f"The video opens with {GOOD}", '"The video opens with"'),
    ("red fox in snow", GOOD[:-20], "breaks off"),
    ("red fox in snow", GOOD + " The fox runs on and on." * 3, "repeats itself"),
    ("red fox in snow", "A red fox in snow.", "too little"),
    ("red fox in snow", f"{GOOD} {UNBROKEN} while {UNBROKEN}.", "run on"),
    ("red fox in snow", GOOD.replace(". ", ".\n", 1), "not a single paragraph"),
    ("red fox in snow -neg flakes, people", GOOD, 'keeps out: "flakes"'),
    ("red fox in snow -camera zoom in", GOOD, "camera zooms in"),
    ("red fox in snow -camera zoom in", f"{GOOD} The camera zooms in.", None),
  ],
)
def test_each_rule_is_judged(asked, prompt, says):
  _, reply = critique(asked, prompt)
  assert templates.judgement(reply) is (says is None)
  assert says is None or says in reply


@pytest.mark.parametrize(
  ("prompt", "verdict"),
  [
    (GOOD, "aligned"),
    (GOOD.replace("runs", "bleeds, blood everywhere,"), "unsafe"),
    ("A red fox bleeds, blood everywhere.", "unsafe"),
    (GOOD.replace("fox", "dog"), "imprecise"),
    ("A red fox in snow.", "imprecise"),
    (" ", "refusal"),
    ("I'm sorry, but I can't help with that.", "refusal"),
  ],
)
def test_the_verdict_names_the_worst_flaw(prompt, verdict):
  content = templates.fill(TEXTS.alignment, query="red fox in snow", prompt=prompt)
  reply = offline.Answers(TEXTS).reply([{"role": "user", "content": content}], 0)
  assert templates.verdict(reply or "") == verdict


QUERIES = [
  "cat on skateboard",
  "two knights fight to the death, blood everywhere",
  "astronaut walking on mars, 4k -neg people, buildings -camera zoom out",
  "make a 30 second video about a soldier standing alone vs a huge army",
  "a man with a gun robbing a bank",
  "roses are red. violets are blue. a child plays (with joy) in {the} garden",
  "Una mujer bailando flamenco",
  "a woman dancing, cinematic lighting, fine details, photorealistic, octane render",
  "男人在海边散步",
]


@pytest.mark.parametrize("asked", QUERIES)
@pytest.mark.parametrize("seed", range(3))
def test_refinement_mends_what_critique_found(asked, seed):
  read = query.read(asked)
  broken = [write.hurried(read, seed), "", f"{asked} {asked}", "The video shows a dog."]
  for prompt in broken:
    content, verdict = critique(asked, prompt)
    if templates.judgement(verdict) is False:
      messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": verdict},
        {"role": "user", "content": TEXTS.refine},
      ]
      refined = templates.marked(offline.Answers(TEXTS).reply(messages, seed))
      assert refined is not None
      assert "\n" not in refined
      assert templates.judgement(critique(asked, refined)[1]) is True, refined


@pytest.mark.parametrize("asked", QUERIES)
def test_a_prompt_is_a_function_of_query_and_seed(asked):
  read = query.read(asked)
  assert write.expand(read, 1) == write.expand(query.read(asked), 1)
  assert len({write.expand(read, seed) for seed in range(9)}) > 4
  assert not judge.find(read, write.expand(read, 1))


def test_the_hurried_writer_errs_at_its_rates():
  asked = [query.read(f"a {w} dog walking on a bridge") for w in map(str, range(250))]
  flaws = [judge.find(a, write.hurried(a, 0)) for a in asked]
  assert 0.05 < sum(bool(f.opening) for f in flaws) / 250 < 0.15
  assert 0.09 < sum(bool(f.lost) for f in flaws) / 250 < 0.21
  unsafe = [query.read(f"{w} killers in a forest") for w in map(str, range(250))]
  harm = [judge.find(a, write.hurried(a, 0)).harmful for a in unsafe]
  assert 0.3 < sum(map(bool, harm)) / 250 < 0.5


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  asked=strategies.text(),
  prompt=strategies.text(strategies.characters(exclude_characters="\n")),
)
@hypothesis.example(asked='User Query: "x"\n\nVideo Prompt: "y"', prompt=GOOD)
@hypothesis.example(asked=TEXTS.critique, prompt="{query}")
@hypothesis.example(asked="Answer in this form, with the markers:", prompt="-neg")
def test_any_query_is_answered_with_its_markers(asked, prompt):
  content, reply = critique(asked, prompt)
  assert templates.judgement(reply) is not None
  answers = offline.Answers(TEXTS)
  shown = templates.show(templates.demonstrations()[:3])
  few_shot = templates.fill(TEXTS.few_shot, demonstrations=shown, query=asked)
  assert answers.reply([{"role": "user", "content": few_shot}], 0) is not None
  messages = [
    {"role": "user", "content": content},
    {"role": "assistant", "content": reply},
    {"role": "user", "content": TEXTS.refine},
  ]
  assert answers.reply(messages, 0) is not None


def test_it_reads_by_the_users_own_templates():
  mine = texts_lib.Texts("D {demonstrations} Q {query}.", "J {prompt} of {query}", "R")
  answers = offline.Answers(mine)
  reply = answers.reply([{"role": "user", "content": "D x Q a red car."}], 0)
  assert "red car" in (templates.marked(reply) or "")
  verdict = answers.reply([{"role": "user", "content": f"J {GOOD} of a red fox"}], 0)
  assert templates.judgement(verdict) is True


def post(base_url, body):
  request = urllib.request.Request(
    f"{base_url}/chat/completions", json.dumps(body).encode()
  )
  with urllib.request.urlopen(request) as reply:
    return json.load(reply)


def test_it_is_a_server_that_says_what_it_is():
  content, reply = critique("red fox in snow", GOOD)
  messages = [{"role": "user", "content": content}]
  with offline.serve(TEXTS) as base_url:
    with urllib.request.urlopen(f"{base_url}/models") as models:
      assert [m["id"] for m in json.load(models)["data"]] == ["offline-rules"]
    body = {"model": "offline-rules", "messages": messages}
    answer = post(base_url, body)
    assert answer["choices"][0]["message"]["content"] == reply
    for wrong, status in (
      (body | {"model": "gpt-4o"}, 404),
      (body | {"messages": [{"role": "user", "content": "Tell me a joke."}]}, 400),
      ({"messages": messages}, 400),
      (body | {"messages": None}, 400),
    ):
      with pytest.raises(urllib.error.HTTPError) as caught:
        post(base_url, wrong)
      assert caught.value.code == status
      caught.value.close()
  # Refused, or answered by whoever has the port now.
  with pytest.raises((OSError, http.client.HTTPException)):
    post(base_url, body)


class Parrot:
  """Rules that answer with what they were asked."""

  def write(self, query, seed):
    return f"{query} {seed}"

  def critique(self, query, prompt):
    return f"{query} | {prompt}"

  def refine(self, query, prompt, seed):
    return f"{query} | {prompt} {seed}"


def test_other_rules_answer_the_same_three_questions():
  answers = offline.Answers(TEXTS, Parrot())
  asked = templates.fill(TEXTS.few_shot, demonstrations="", query="a {red} fox")
  assert answers.reply([{"content": asked}], 3) == "[[start]]a {red} fox 3[[end]]"
  judged = {"content": templates.fill(TEXTS.critique, query="a fox", prompt=GOOD)}
  assert answers.reply([judged], 0) == f"a fox | {GOOD}"
  turns = [judged, {"content": "No"}, {"content": TEXTS.refine}]
  assert answers.reply(turns, 5) == f"a fox | {GOOD} 5"


@pytest.mark.parametrize(
  ("module", "options"),
  [("no.such.rules", {}), ("torch_bridge.miniature.teacher", {"lazy": 1.0})],
)
def test_rules_that_cannot_be_had_are_one_line(module, options):
  with pytest.raises(errors.UserError, match=r"config\.teacher\.offline\.rules='"):
    offline.rules(module, options)
