"""LLMs with message templates, called like the teacher."""

import json

import faulty
import pytest
from etils import epath

from tests.evaluate.systems.conftest import QUERIES
from vpo_jax import errors, records, stages
from vpo_jax.evaluate import evaluate, setup, systems
from vpo_jax.evaluate.systems import llm, message_template

TEMPLATE = {
  "system": "You write {long} captions.",
  "examples": [{"user": "Short: a girl", "assistant": "A girl in red."}],
  "user": 'In ENGLISH: " {query} "',
  "settings": {"temperature": 0.01, "top_p": 0.7, "max_tokens": 250},
}


def asks(place, server, **changes):
  path = place.folder / "template.json"
  path.write_text(json.dumps(TEMPLATE | changes))
  entry = place.config.llms.gpt_4o
  entry.template = str(path)
  entry.teacher.update(base_url=server.base_url, api_key_env="", retries=1)
  return place


def counts(place):
  return stages.finished_counts(place.folder / "systems" / "llm" / "prompts")


def query_of(body):
  return body["messages"][-1]["content"].removeprefix('In ENGLISH: " ')[:-2]


def test_the_request_is_the_template_with_the_query(place):
  with faulty.running(faulty.Server(lambda n, body: '"A long\ncaption."')) as server:
    asks(place, server)
    assert set(place.write("llm=llm gpt_4o").values()) == {"A long caption."}
    assert place.write("llm=llm gpt_4o")  # again: nothing is sent
    assert len(server.requests) == 3
    by_query = {query_of(body): body for body in server.requests}
    assert set(by_query) == set(QUERIES)
    body = by_query[QUERIES[2]]
    assert body["messages"] == [
      {"role": "system", "content": "You write {long} captions."},
      {"role": "user", "content": "Short: a girl"},
      {"role": "assistant", "content": "A girl in red."},
      {"role": "user", "content": f'In ENGLISH: " {QUERIES[2]} "'},
    ]
    sent = (body["temperature"], body["top_p"], body["max_tokens"], body["model"])
    assert sent == (0.01, 0.7, 250, "gpt-4o")
    place.config.llms.gpt_4o.teacher.parallel = 3  # execution only
    assert place.write("llm=llm gpt_4o")
    asks(place, server, user="{query}!")
    with pytest.raises(errors.UserError, match="its input template"):
      place.write("llm=llm gpt_4o")


@pytest.mark.parametrize(
  ("empty", "prompt", "kept", "refused"),
  [("query", QUERIES[1], 1, 1), ("refusal", "", 0, 2)],
)
def test_refusals_are_empty_and_empty_replies_as_the_template_says(
  place, empty, prompt, kept, refused
):
  def answer(number, body):
    replies = dict(zip(QUERIES, ("I'm sorry, but I can't.", " ", "A man"), strict=True))
    text = replies[query_of(body)]
    return faulty.completion(text, "length" if text == "A man" else "stop")

  with faulty.running(faulty.Server(answer)) as server:
    found = asks(place, server, empty=empty).write("llm=llm gpt_4o")
    assert found == {"0": "", "1": prompt, "2": "A man"}
    made = counts(place)
    assert (made["query_kept"], made["refused"]) == (kept, refused)
    assert made["cut_by_length"] == 1
    assert len(server.requests) == 1 + 3 + 1  # the empty one is drawn three times


def test_no_choices_are_an_empty_reply(place):
  def answer(number, body):
    if query_of(body) == QUERIES[1]:
      return 200, {}, {"id": "1", "choices": [], "usage": None}
    return "A caption."

  with faulty.running(faulty.Server(answer)) as server:
    found = asks(place, server, empty="query").write("llm=llm gpt_4o")
  assert found == {"0": "A caption.", "1": QUERIES[1], "2": "A caption."}


def test_a_reply_that_never_begins_is_set_aside_and_not_taken_for_an_empty_one(place):
  def answer(number, body):
    if query_of(body) == QUERIES[1]:
      return faulty.completion("<think>Well,", "length")
    return "A caption."

  with faulty.running(faulty.Server(answer)) as server:
    found = asks(place, server, empty="query").write("llm=llm gpt_4o")
  assert found == {"0": "A caption.", "2": "A caption."}
  path = place.folder / "systems" / "llm" / "prompts" / "set_aside.jsonl"
  (aside,) = records.read(path, records.SetAside)
  assert "max_tokens=250" in aside.reason


@pytest.mark.parametrize(
  ("reply", "prompt"),
  [
    ('"A fox."', "A fox."),
    ("“A fox.”", "A fox."),
    ("[A fox.]", "A fox."),
    ('"Hi", says a "fox"', '"Hi", says a "fox"'),
    ("A\n\nfox.", "A fox."),
    ("'", "'"),
    ('"Stop', '"Stop'),
  ],
)
def test_only_quotes_around_the_whole_are_removed(reply, prompt):
  assert llm.clean(reply) == prompt


@pytest.mark.parametrize(
  ("content", "line"),
  [
    ({"user": "no place"}, "must contain {query} once, found 0"),
    ({"user": "{query} {query}"}, "must contain {query} once, found 2"),
    ({"system": "x"}, "user: Field required"),
    ({"user": "{query}", "system_prompt": "x"}, "system_prompt: Unexpected keyword"),
    ({"user": "{query}", "settings": {"top_p": 7}}, "settings.top_p: Input should be"),
    ({"user": "{query}", "empty": "x"}, "empty: Input should be 'query' or 'refusal'"),
    ({"user": "{query}", "examples": [{"user": "a"}]}, "examples.0.assistant"),
  ],
)
def test_wrong_templates_are_one_line(tmp_path, content, line):
  path = tmp_path / "template.json"
  path.write_text(json.dumps(content))
  with pytest.raises(errors.UserError) as error:
    message_template.load(path)
  assert line in str(error.value)
  assert "\n" not in str(error.value)


def test_wrong_keys_are_found_before_anything_is_asked(place, tmp_path):
  place.config.systems = ("original=query", "few_shot=teacher", "x=llm gpt_5")
  place.config.suites = ("query_alignment",)
  place.config.query_alignment.queries = str(place.queries)
  with pytest.raises(errors.UserError, match="no 'gpt_5', only glm_4, gpt_4o"):
    stages.run(evaluate.STAGE, place.config, tmp_path)
  place.config.systems = ("original=query", "few_shot=teacher", "x=llm gpt_4o")
  with pytest.raises(errors.UserError, match=r"llms\.gpt_4o\.template is empty"):
    stages.run(evaluate.STAGE, place.config, tmp_path)


def test_a_dry_run_sends_nothing_and_names_the_cost(place, capsys):
  with faulty.running(faulty.Server(lambda n, body: "A caption.")) as server:
    asks(place, server)
    place.config.systems = ("original=query", "x=llm gpt_4o", "y=llm gpt_4o of x")
    place.config.suites = ("query_alignment",)
    place.config.query_alignment.queries = str(place.queries)
    place.config.iterate = ("query_alignment",)
    place.config.llms.gpt_4o.teacher.dry_run = True
    stages.run(evaluate.STAGE, place.config, place.folder)
    assert not server.requests
  said = " ".join(capsys.readouterr().err.split())
  assert "3 rows with gpt-4o: 3 calls" in said
  assert "y: not estimated: it needs the prompts of x" in said


def test_every_llm_is_named(place):
  with faulty.running(faulty.Server(lambda n, body: "")) as server:
    asks(place, server)
  chosen = systems.parse(("a=query", "b=llm gpt_4o", "c=llm gpt_4o of b"))
  rows = setup.describe(place.config, chosen, epath.Path(place.folder))
  assert [row["part"] for row in rows][1:2] == ["judge of the prompts"]
  assert rows[0] == {
    "part": "LLM gpt_4o",
    "model": f"gpt-4o ({server.base_url})",
    "revision": "",
  }
