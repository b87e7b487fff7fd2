"""Batches give the same rows as single calls, and no batch is sent twice."""

import batch_server
import pytest
import test_build_sft

from vpo_jax import errors, stages
from vpo_jax.teacher import build_sft, journal

queries = test_build_sft.queries
stage_config = test_build_sft.stage_config
teach = test_build_sft.teach
FILTER = "ResponsibleAIPolicyViolation"


@pytest.fixture
def batched(stage_config):
  stage_config.teacher.batch = True
  stage_config.teacher.poll_s = 0.01
  return stage_config


def run(config, server, workdir):
  with batch_server.running(server) as base_url:
    config.teacher.base_url = base_url
    return stages.run(build_sft.STAGE, config, workdir)


def scripted(script):
  return batch_server.Server(lambda body: script(0, body))


def test_batches_give_the_same_rows_as_single_calls(served, batched, queries, tmp_path):
  script = teach(flawed=["boats"])
  server = scripted(script)
  counts = run(batched, server, tmp_path)
  assert len(server.batches) == 3  # few-shot, critique, refinement
  assert (counts["calls"], counts["journal_hits"]) == (9, 0)
  assert counts["prompt_tokens"] == 9 * 10
  batched.teacher.batch = False
  batched.teacher.base_url = served(script).base_url
  other = tmp_path / "other"
  (other / "curate").mkdir(parents=True)
  (tmp_path / "curate/sft.jsonl").rename(other / "curate/sft.jsonl")
  stages.run(build_sft.STAGE, batched, other)
  assert test_build_sft.examples(other) == test_build_sft.examples(tmp_path)


class Killed(BaseException):
  """Stands for the end of the process."""


@pytest.mark.parametrize("recorded", [True, False])
def test_a_killed_run_finds_its_batch(
  batched, queries, tmp_path, monkeypatch, recorded
):
  """Killed while the second batch runs, or before its id is recorded."""
  server = scripted(teach(flawed=["boats"]))
  put = journal.Journal.put_batch

  def killed_put(self, name, *, collected):
    if name == "batch_1" and not recorded:
      raise Killed
    put(self, name, collected=collected)
    if name == "batch_1":
      raise Killed

  monkeypatch.setattr(journal.Journal, "put_batch", killed_put)
  with pytest.raises(Killed):
    run(batched, server, tmp_path)
  assert len(server.batches) == 2
  monkeypatch.setattr(journal.Journal, "put_batch", put)
  counts = run(batched, server, tmp_path)
  assert len(server.batches) == 3
  assert len(server.sent) == len(set(server.sent)) == 9
  assert counts["examples"] == 4


def test_requests_missing_from_a_batch_are_sent_again(batched, queries, tmp_path):
  script, seen = teach(), set()

  def misses_first_attempts(body):
    key = body["messages"][0]["content"]
    if key in seen:
      return script(0, body)
    seen.add(key)
    return None

  server = batch_server.Server(misses_first_attempts)
  server.final_status = "expired"
  counts = run(batched, server, tmp_path)
  assert counts["examples"] == 4
  assert len(server.sent) == 2 * 8


def test_an_error_line_affects_only_its_row(batched, queries, tmp_path):
  script = teach()
  batched.teacher.retries = 1

  def answers(body):
    content = body["messages"][0]["content"]
    if "boats" in content:
      return 400, {"message": "filtered", "code": "content_filter"}
    if "cats" in content:
      return 500, {"message": "server broke"}
    return script(0, body)

  server = batch_server.Server(answers)
  counts = run(batched, server, tmp_path)
  assert (counts["examples"], counts["set_aside"]) == (2, 2)
  reasons = {row.text: row.reason for row in test_build_sft.aside(tmp_path)}
  assert reasons == {
    "boats at dawn": "refused: filtered",
    "cats": "failed: server broke",
  }


def test_a_failed_batch_is_a_one_line_error(batched, queries, tmp_path):
  server = scripted(teach())
  server.final_status = "failed"
  with pytest.raises(errors.UserError, match="batch batch_0 failed: no such model"):
    run(batched, server, tmp_path)
  server.final_status = "completed"
  assert run(batched, server, tmp_path)["examples"] == 4


def test_a_server_without_batch_api_is_a_one_line_error(
  served, batched, queries, tmp_path
):
  batched.teacher.base_url = served(teach()).base_url
  with pytest.raises(errors.UserError, match=r"start a batch: no such path"):
    stages.run(build_sft.STAGE, batched, tmp_path)


def test_the_cost_limit_applies_before_a_batch_is_sent(batched, queries, tmp_path):
  server = scripted(teach())
  batched.teacher.prices = ("m 100 100",)
  batched.teacher.max_cost = 0.05
  with pytest.raises(errors.UserError, match=r"stopped at \$0\.00, the next requests"):
    run(batched, server, tmp_path)
  assert not server.batches
  batched.teacher.max_cost = 100.0
  counts = run(batched, server, tmp_path)
  assert counts["cost_usd"] == pytest.approx(8 * 15 * 100 / 1e6 / 2)


def test_lines_of_a_batch_end_at_line_feeds_only(batched, queries, tmp_path):
  script = teach()

  def with_separators(body):
    if test_build_sft.task(body) == "few_shot":
      return "[[start]]One\u2028two\u2029three\x85four.[[end]]"
    return script(0, body)

  server = batch_server.Server(with_separators)
  server.ascii_only = False
  counts = run(batched, server, tmp_path)
  assert counts["examples"] == 4
  assert {row.generated for row in test_build_sft.examples(tmp_path)} == {
    "One two three four."
  }


@pytest.mark.parametrize(
  ("line", "says"),
  [
    (b'{"custom_id": "x", "resp', r"file-1:\d: not JSON"),
    (b"\xff\xfe", r"file-1:\d: not JSON"),
    (b"[1]", r"file-1:\d: has no custom_id"),
  ],
  ids=str,
)
def test_an_unreadable_line_is_one_line_after_the_others_are_journaled(
  batched, queries, tmp_path, line, says
):
  script, broken = teach(), [True]

  def breaks_once(body):
    if broken and "boats" in body["messages"][0]["content"]:
      broken.clear()
      return line
    return script(0, body)

  server = batch_server.Server(breaks_once)
  with pytest.raises(errors.UserError, match=rf"^batch batch_0: {says}") as caught:
    run(batched, server, tmp_path)
  assert "\n" not in str(caught.value)
  with journal.Journal(tmp_path / "build_sft/journal.sqlite") as stored:
    assert len(stored) == 3
  counts = run(batched, server, tmp_path)
  assert counts["examples"] == 4
  assert len(server.sent) == len(set(server.sent)) + 1


def test_refusals_in_error_lines_are_remembered(batched, queries, tmp_path):
  refused = {"message": "no", "code": "400", "innererror": {"code": FILTER}}
  script = teach()

  def answers(body):
    return (400, refused) if "boats" in str(body["messages"]) else script(0, body)

  server = batch_server.Server(answers)
  counts = run(batched, server, tmp_path)
  assert counts["set_aside"] == 1
  assert [row.reason for row in test_build_sft.aside(tmp_path)] == ["refused: no"]
  assert len(server.sent) == len(set(server.sent)) == 7


def test_an_error_line_that_concerns_every_request_ends_the_run(
  batched, queries, tmp_path
):
  script = teach()

  def answers(body):
    if "boats" in str(body["messages"]):
      return 429, {"message": "pay sk-secret-5151", "code": "insufficient_quota"}
    return script(0, body)

  server = batch_server.Server(answers)
  with pytest.raises(errors.UserError, match=r"429: pay \(key\)"):
    run(batched, server, tmp_path)
  assert len(server.sent) == 4
  server.script = lambda body: script(0, body)
  counts = run(batched, server, tmp_path)
  assert (counts["examples"], len(server.sent)) == (4, 9)


def test_a_rejected_line_is_sent_once(batched, queries, tmp_path):
  script = teach()

  def answers(body):
    long = "boats" in str(body["messages"])
    return (400, {"message": "too long"}) if long else script(0, body)

  server = batch_server.Server(answers)
  run(batched, server, tmp_path)
  assert [row.reason for row in test_build_sft.aside(tmp_path)] == ["failed: too long"]
  assert len(server.sent) == 7


def test_reasoning_in_a_batch_is_not_read(batched, queries, tmp_path):
  script = teach()
  server = batch_server.Server(
    lambda body: f"<think>[[start]]and[[end]]</think>{script(0, body)}"
  )
  run(batched, server, tmp_path)
  rows = test_build_sft.examples(tmp_path)
  assert all(row.prompt.startswith("A scene of") for row in rows)
