"""The stage: s is p or its refinement; no query is lost, no reply paid for twice."""

import json
import pathlib

import faulty
import pytest

from configs import build_sft as build_sft_config
from vpo_jax import errors, records, stages, templates
from vpo_jax.teacher import build_sft

QUERIES = ["a red fox in snow", "boats at dawn", "{query} [[start]]x[[end]]", "cats"]


@pytest.fixture
def queries(tmp_path):
  rows = [records.Query(records.row_id(text), text) for text in QUERIES]
  records.write(tmp_path / "curate" / "sft.jsonl", rows)
  return rows


@pytest.fixture
def stage_config(config):
  stage = build_sft_config.get_config()
  stage.teacher = config
  stage.teacher.parallel = 3
  stage.heldout = 0.0
  return stage


def task(body):
  """Returns which of the three tasks a request is for."""
  if len(body["messages"]) == 3:
    return "refine"
  content = body["messages"][0]["content"]
  return "critique" if "Final Judgement" in content else "few_shot"


def teach(flawed=(), **others):
  """Returns the script of a teacher.

  Args:
    flawed: prompts that contain one of these words fail the critique.
    others: fixed answers by task.
  """

  def script(number, body):
    kind, first = task(body), body["messages"][0]["content"]
    if kind in others:
      return others[kind]
    if kind == "few_shot":
      query = first.split("User Query: ")[-1].split("\n\nAnswer")[0]
      return f"Here: [[start]]A scene\nof {query.strip('[]')[:9]}.[[end]]"
    if kind == "critique":
      bad = any(word in first.split("Video Prompt:")[1] for word in flawed)
      return f"Steps.\nFinal Judgement (Yes or No): {'No' if bad else 'Yes'}"
    assert body["messages"][1]["content"].endswith("No")
    return "Why.\nFinal Refined Prompt: [[start]]Better\nscene.[[end]]"

  return script


def run(stage_config, server, workdir):
  stage_config.teacher.base_url = server.base_url
  return stages.run(build_sft.STAGE, stage_config, workdir)


def examples(workdir):
  return list(records.read(workdir / "build_sft/sft.jsonl", records.SftExample))


def aside(workdir):
  return list(records.read(workdir / "build_sft/set_aside.jsonl", records.SetAside))


def test_s_is_p_or_its_refinement(served, stage_config, queries, tmp_path):
  counts = run(stage_config, served(teach(flawed=["boats"])), tmp_path)
  rows = {row.query: row for row in examples(tmp_path)}
  assert list(rows) == QUERIES
  fox, boats = rows["a red fox in snow"], rows["boats at dawn"]
  assert (fox.generated, fox.refined, fox.prompt) == (
    "A scene of a red fox.",
    None,
    "A scene of a red fox.",
  )
  assert (boats.refined, boats.prompt) == ("Better scene.", "Better scene.")
  assert boats.critique.startswith("Steps.")
  assert counts["examples"] == 4
  assert counts["refined"] == 1
  assert counts["calls"] == 4 + 4 + 1
  chats = json.loads((tmp_path / "build_sft/train.json").read_text())
  instruction = templates.load("instruction")
  assert chats[2]["messages"] == [
    {"role": "user", "content": templates.fill(instruction, query=QUERIES[2])},
    {"role": "assistant", "content": rows[QUERIES[2]].prompt},
  ]


def test_a_finished_stage_sends_nothing(served, stage_config, queries, tmp_path):
  server = served(teach())
  counts = run(stage_config, server, tmp_path)
  sent = len(server.requests)
  stage_config.teacher.parallel = 1
  stage_config.teacher.timeout_s = 1.0
  stage_config.teacher.limit_name = "max_completion_tokens"
  assert run(stage_config, server, tmp_path) == counts
  stage_config.teacher.api_key_env = "NO_SUCH_KEY"  # a finished stage needs no key
  assert run(stage_config, server, tmp_path) == counts
  assert len(server.requests) == sent
  stage_config.teacher.temperature = 0.1
  with pytest.raises(errors.UserError, match="temperature"):
    run(stage_config, server, tmp_path)


def test_a_stopped_run_continues_from_the_journal(
  served, stage_config, queries, tmp_path
):
  teacher = teach(flawed=["boats"])

  def fails_later(number, body):
    return teacher(number, body) if number < 5 else faulty.error(401)

  server = served(fails_later)
  with pytest.raises(errors.UserError, match="refuses the key"):
    run(stage_config, server, tmp_path)
  assert not (tmp_path / "build_sft" / "sft.jsonl").exists()
  server.script = teacher
  before = len(server.requests)
  counts = run(stage_config, server, tmp_path)
  assert counts["journal_hits"] == 5
  assert len(server.requests) - before == counts["calls"] == 9 - 5
  assert len(examples(tmp_path)) == 4


def test_two_runs_can_share_a_journal(served, stage_config, queries, tmp_path):
  stage_config.teacher.journal = str(tmp_path / "shared.sqlite")
  server = served(teach())
  run(stage_config, server, tmp_path)
  other = tmp_path / "other"
  (other / "curate").mkdir(parents=True)
  (tmp_path / "curate/sft.jsonl").rename(other / "curate/sft.jsonl")
  counts = run(stage_config, server, other)
  assert (counts["calls"], counts["journal_hits"]) == (0, 8)
  assert examples(other) == examples(tmp_path)


def test_a_reply_without_markers_is_drawn_again(
  served, stage_config, queries, tmp_path
):
  script = teach()

  def forgets(number, body):
    return "no marker" if body["seed"] == 0 else script(number, body)

  server = served(forgets)
  counts = run(stage_config, server, tmp_path)
  assert counts["examples"] == 4
  assert {body["seed"] for body in server.requests} == {0, 1}


@pytest.mark.parametrize(
  ("answer", "reason"),
  [
    ("no marker at all", "unparsed: 3 replies lack the marker"),
    (faulty.completion("[[start]]cut[[end]]", finish_reason="length"), "unparsed: 3"),
    (faulty.completion(None, refusal="I will not."), "refused: I will not."),
    ("I'm sorry, but I can't help with that.", "refused: I'm sorry"),
    ("I can’t assist with this request.", "refused: I can’t"),
  ],
)
def test_a_row_without_an_answer_is_set_aside(
  served, stage_config, queries, tmp_path, answer, reason
):
  script = teach()

  def refuses_boats(number, body):
    boats = "boats" in body["messages"][0]["content"]
    return answer if boats and task(body) == "few_shot" else script(number, body)

  counts = run(stage_config, served(refuses_boats), tmp_path)
  assert (counts["examples"], counts["set_aside"]) == (3, 1)
  (row,) = aside(tmp_path)
  assert row.text == "boats at dawn"
  assert row.reason.startswith(reason)


def test_no_answer_at_all_is_an_error(served, stage_config, queries, tmp_path):
  with pytest.raises(errors.UserError, match="no usable answer to any of 4 rows"):
    run(stage_config, served(lambda *_: "no marker"), tmp_path)


def test_calls_run_in_parallel_up_to_the_limit(served, stage_config, queries, tmp_path):
  server = served(teach())
  server.delay = 0.05
  run(stage_config, server, tmp_path)
  assert server.most_at_once == stage_config.teacher.parallel


def test_demonstrations_are_drawn_by_query_and_seed(
  served, stage_config, queries, tmp_path
):
  server = served(teach())
  run(stage_config, server, tmp_path)
  contents = [
    b["messages"][0]["content"] for b in server.requests if task(b) == "few_shot"
  ]
  shown = [text.split("Requirements:")[0] for text in contents]
  assert len(set(shown)) > 1
  assert all(text.count("Example ") == 3 for text in shown)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"critique_rules": 7}, "critique_rules=7: must be 6"),
    ({"few_shot": "none.txt"}, "none.txt: cannot read the few_shot template"),
    ({"heldout": 1.5}, "heldout=1.5"),
    ({"teacher": {"parallel": 0}}, "parallel=0: must be 1"),
    ({"queries": "none.jsonl"}, "none.jsonl does not exist"),
  ],
)
def test_an_invalid_config_sends_nothing(
  served, stage_config, queries, tmp_path, change, message
):
  server = served(teach())
  stage_config.update(change)
  with pytest.raises(errors.UserError, match=message):
    run(stage_config, server, tmp_path)
  assert not server.requests


def test_the_teacher_gets_the_query_that_the_policy_gets(
  served, stage_config, tmp_path
):
  """Flags stored apart from the query reach neither."""
  row = records.Query("1", "a red fox", flags="-camera zoom in")
  records.write(tmp_path / "curate" / "sft.jsonl", [row])
  server = served(teach(flawed=["fox"]))
  run(stage_config, server, tmp_path)
  assert [task(body) for body in server.requests] == ["few_shot", "critique", "refine"]
  (row,) = json.loads((tmp_path / "build_sft" / "train.json").read_text())
  policy = row["messages"][0]["content"]
  for content in (policy, *(b["messages"][0]["content"] for b in server.requests)):
    assert "a red fox" in content
    assert "zoom in" not in content.partition("User Query:")[2]


def test_the_instruction_is_stored_beside_its_rows(
  served, stage_config, queries, tmp_path
):
  mine = tmp_path / "mine.txt"
  mine.write_text("Say it better: {query}")
  stage_config.instruction = str(mine)
  run(stage_config, served(teach()), tmp_path)
  rows = json.loads((tmp_path / "build_sft" / "train.json").read_text())
  assert rows[0]["messages"][0]["content"] == f"Say it better: {queries[0].text}"
  stored = tmp_path / "build_sft" / "instruction.txt"
  assert stored.read_text() == mine.read_text()


def test_rows_of_the_release_can_be_the_input(served, stage_config, tmp_path):
  turns = [
    {"role": "user", "content": f"Rewrite.\n\nUser Query:{query}\n\nVideo Prompt:"}
    for query in QUERIES
  ]
  path = tmp_path / "vpo.json"
  path.write_text(json.dumps([{"messages": [turn]} for turn in turns] + [{"x": 1}]))
  stage_config.queries = str(path)
  counts = run(stage_config, served(teach()), tmp_path)
  assert [row.query for row in examples(tmp_path)] == QUERIES
  assert (counts["examples"], counts["set_aside"], counts["no_query"]) == (4, 1, 1)
  assert "no text under" in aside(tmp_path)[0].reason
  card = (tmp_path / "build_sft" / "README.md").read_text()
  assert "1 rows of the input held no new query" in card
  # The stage's own train.json has the same form.
  stage_config.queries = str(tmp_path / "build_sft" / "train.json")
  assert run(stage_config, served(teach()), tmp_path / "again")["examples"] == 4


def test_an_unreachable_teacher_leaves_no_folder(
  stage_config, queries, tmp_path, monkeypatch
):
  stage_config.teacher.base_url = "http://127.0.0.1:1/v1"
  with pytest.raises(errors.UserError, match="cannot be reached"):
    stages.run(build_sft.STAGE, stage_config, tmp_path)
  monkeypatch.delenv("TEST_TEACHER_KEY")
  with pytest.raises(errors.UserError, match="holds no key"):
    stages.run(build_sft.STAGE, stage_config, tmp_path)
  assert not (tmp_path / "build_sft").exists()


def test_a_target_limits_prompts_and_its_notes_are_in_the_instruction(
  served, stage_config, queries, tmp_path
):
  tokenizer = pathlib.Path("torch_bridge/miniature/model/tokenizer").absolute()
  profile = {"tokenizer": str(tokenizer), "tokens": 5, "notes": "Be brief."}
  path = tmp_path / "mine.json"
  path.write_text(json.dumps(profile))
  stage_config.target = str(path)
  counts = run(stage_config, served(teach()), tmp_path)
  rows = examples(tmp_path)
  assert counts["refined"] == counts["examples"] == 4  # "A scene of a ..." is too long
  assert all("tokens, of which mine reads 5" in row.critique for row in rows)
  instruction = (tmp_path / "build_sft" / "instruction.txt").read_text()
  assert "aspect ratio.\n\nBe brief.\n\nUser Query:{query}" in instruction
  path.write_text(json.dumps(profile | {"tokens": 6}))
  with pytest.raises(errors.UserError, match="target"):
    run(stage_config, served(teach()), tmp_path)
