"""Transient faults are retried; others end the run with a one-line error."""

import asyncio
import email.utils
import socket
import time

import faulty
import pytest

from vpo_jax import errors
from vpo_jax.teacher import ask as ask_lib
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib

MESSAGES = ({"role": "user", "content": "a question"},)


def call(config, folder, base_url, requests=((MESSAGES, 0),)):
  """Sends requests concurrently; returns replies or exceptions, and the totals."""

  async def run():
    with journal_lib.Journal(folder / "j.sqlite") as journal:
      client = client_lib.Client(config, journal, base_url)
      try:
        await client.reach()
        calls = [client.reply(messages, sample) for messages, sample in requests]
        return await asyncio.gather(*calls, return_exceptions=True), client.totals
      finally:
        await client.close()

  return asyncio.run(run())


@pytest.mark.parametrize(
  "fault",
  [
    faulty.error(500),
    faulty.error(503),
    faulty.error(429, **{"Retry-After": "0.01"}),
    faulty.error(408),
    faulty.DROP,
    faulty.CUT,
    faulty.GARBAGE,
    faulty.PAGE,
    {"choices": []},
    {"choices": None, "error": "busy"},
    {"choices": [], "usage": None},
    {"error": {"code": 502, "message": "the provider is down"}},
    faulty.completion("half", finish_reason="error"),
    faulty.completion(None, usage=(0, 0)),
    (503, {}, b"<html><title>503 Service Unavailable</title></html>"),
    (529, {}, {"type": "error", "error": {"type": "overloaded_error"}}),
    (
      429,
      {},
      [
        {
          "error": {
            "code": 429,
            "message": "check your billing details",
            "details": [{"retryDelay": "0.01s"}],
          }
        }
      ],
    ),
  ],
  ids=str,
)
def test_a_transient_fault_costs_one_call(served, config, tmp_path, fault):
  server = served(lambda number, _: fault if number == 0 else "fine")
  (reply,), totals = call(config, tmp_path, server.base_url)
  assert reply == journal_lib.Reply("fine", "stop", False, 10, 5)
  assert len(server.requests) == 2
  assert (totals.calls, totals.prompt_tokens, totals.completion_tokens) == (1, 10, 5)


def test_a_timeout_is_retried(served, config, tmp_path):
  config.timeout_s = 0.3
  server = served(lambda number, _: faulty.HANG if number == 0 else "fine")
  (reply,), _ = call(config, tmp_path, server.base_url)
  assert reply.text == "fine"


def http_date(seconds):
  return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
  # A date has no fractions of a second.
  "wait",
  [lambda: "1", lambda: "1.2", lambda: "1s", lambda: http_date(2.5)],
)
def test_retry_after_is_respected(served, config, tmp_path, status, wait):
  limited = faulty.error(status, **{"Retry-After": wait()})
  server = served(lambda number, _: limited if number == 0 else "fine")
  began = time.monotonic()
  call(config, tmp_path, server.base_url)
  assert time.monotonic() - began >= 1
  assert len(server.requests) == 2


@pytest.mark.parametrize(
  "value", ["0", "-1", "soon", "nan", "Sat, 28 Nov 2020 10:00:00 GMT"]
)
def test_a_retry_after_that_says_nothing_is_a_backoff(served, config, tmp_path, value):
  limited = faulty.error(429, **{"Retry-After": value})
  server = served(lambda number, _: limited if number == 0 else "fine")
  (reply,), _ = call(config, tmp_path, server.base_url)
  assert reply.text == "fine"


def test_equal_requests_are_sent_once(served, config, tmp_path):
  server = served(lambda number, _: f"reply {number}")
  server.delay = 0.05
  (first, second, other), totals = call(
    config, tmp_path, server.base_url, [(MESSAGES, 0), (MESSAGES, 0), (MESSAGES, 1)]
  )
  assert first == second != other
  assert (totals.calls, totals.journal_hits) == (2, 1)
  (again,), totals = call(config, tmp_path, server.base_url)
  assert again == first
  assert (totals.calls, totals.journal_hits) == (0, 1)
  assert len(server.requests) == 2
  assert [request["seed"] for request in server.requests] == [0, 1]


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (faulty.error(401, "bad key sk-secret-5151"), r"refuses the key \(401\)"),
    (faulty.error(403), r"refuses the key \(403\).*\$TEST_TEACHER_KEY"),
    (faulty.error(404, "no model sk-secret-5151"), r"does not know model 'm'"),
    (faulty.error(401, "bad key sk-secret-5151"), r"\(401\): bad key \(key\);"),
    (faulty.error(401, "x" * 192 + " sk-secret-5151"), r"refuses the key"),
    (faulty.error(405, "POST is not allowed"), r"405: POST is not allowed"),
    (faulty.error(410, "m was retired"), r"does not know model 'm'.*410: m was ret"),
    (faulty.error(429, "pay", "insufficient_quota"), "the quota is used up"),
    (faulty.error(402, "Insufficient Balance"), r"\(402: Insufficient Balance\)"),
    (faulty.error(429, "Check your billing details"), "429: Check your billing"),
    (faulty.error(400, "Your credit balance is too low"), "Your credit balance is too"),
    (
      (402, {}, [{"error": {"code": 402, "message": "Top up."}}]),
      r"no credit \(402: Top up\.\)",
    ),
    ((402, {}, b"Top up."), r"no credit \(402: Top up\.\)"),
    ({"error": {"code": 402, "message": "Top up."}}, r"no credit \(402: Top up\.\)"),
    (
      (400, {}, [{"error": {"message": "API key not valid.", "code": 400}}]),
      r"refuses the key \(400\): API key not valid\.",
    ),
    (faulty.error(429, "x", **{"Retry-After": "120.5"}), r"asks to wait 120 s"),
    (
      faulty.error(429, "x", **{"Retry-After": "Tue, 01 Jan 2075 10:00:00 GMT"}),
      r"asks to wait 1\d{9}",
    ),
    (
      faulty.error(503, "down", **{"Retry-After": "3600"}),
      r"asks to wait 3600 s.*down",
    ),
    (faulty.error(429, "a day", **{"Retry-After": "3600"}), r"asks to wait 3600 s"),
    (
      faulty.error(400, "Unsupported parameter: 'max_tokens'", "unsupported_parameter"),
      r"rejects a parameter.*'max_tokens'.*limit_name",
    ),
  ],
  ids=str,
)
def test_a_permanent_error_ends_the_run_after_one_call(
  served, config, tmp_path, answer, message
):
  server = served(lambda *_: answer)
  many = [(({"role": "user", "content": str(i)},), 0) for i in range(50)]
  outcomes, _ = call(config, tmp_path, server.base_url, many)
  assert len(server.requests) == 1
  for outcome in outcomes:
    assert isinstance(outcome, errors.UserError)
    assert server.base_url in str(outcome)
    assert "sk-secret" not in str(outcome)
    assert "\n" not in str(outcome)
  with pytest.raises(errors.UserError, match=message):
    raise outcomes[0]


def test_an_unreachable_server_is_reported_at_once(config, tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
  config.retries = 1000  # hours
  with pytest.raises(errors.UserError, match=r"cannot be reached.*teacher\.base_url"):
    call(config, tmp_path, url)


def test_a_missing_key_is_reported_with_its_variable(config, tmp_path, monkeypatch):
  monkeypatch.delenv("TEST_TEACHER_KEY")
  with pytest.raises(errors.UserError, match="TEST_TEACHER_KEY holds no key"):
    call(config, tmp_path, "http://127.0.0.1:1/v1")
  config.api_key_env = ""
  with pytest.raises(errors.UserError, match="cannot be reached"):
    call(config, tmp_path, "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
  "answer",
  [
    faulty.completion(None, refusal="I will not."),
    faulty.completion("half", finish_reason="content_filter"),
    faulty.completion(None, finish_reason="content_filter"),
    faulty.error(400, "filtered", "content_filter"),
  ],
  ids=str,
)
def test_a_refusal_is_journaled_as_a_reply(served, config, tmp_path, answer):
  server = served(lambda *_: answer)
  (reply,), _ = call(config, tmp_path, server.base_url)
  assert reply.refusal
  (again,), totals = call(config, tmp_path, server.base_url)
  assert again == reply
  assert totals.calls == 0


def test_a_server_that_stays_down_stops_the_run(served, config, tmp_path):
  config.retries = 0
  server = served(lambda *_: faulty.error(500, "sk-secret-5151 broke"))
  many = [(({"role": "user", "content": str(i)},), 0) for i in range(40)]
  outcomes, _ = call(config, tmp_path, server.base_url, many)
  assert len(server.requests) == client_lib.MAX_FAILURES
  assert sum(isinstance(o, errors.UserError) for o in outcomes) == 31
  with pytest.raises(errors.UserError, match=r"10 calls in a row got no answer.*500"):
    raise outcomes[-1]
  assert all("sk-secret" not in str(outcome) for outcome in outcomes)


def test_a_rejected_request_affects_only_its_row(served, config, tmp_path):
  def script(number, body):
    bad = body["messages"][0]["content"] == "1"
    return faulty.error(400, "too long") if bad else "fine"

  server = served(script)
  many = [(({"role": "user", "content": str(i)},), 0) for i in range(3)]
  outcomes, _ = call(config, tmp_path, server.base_url, many)
  assert isinstance(outcomes[1], ask_lib.NoAnswer)
  assert str(outcomes[1]) == "failed: 400: too long"
  assert outcomes[0].text == outcomes[2].text == "fine"


def test_a_reply_that_repeats_the_key_does_not_show_it(served, config, tmp_path):
  config.retries = 0
  server = served(lambda *_: {"echo": "x" * 150 + " Bearer sk-secret-5151"})
  (outcome,), _ = call(config, tmp_path, server.base_url)
  assert "not a chat completion" in str(outcome)
  assert "sk-" not in str(outcome)


def test_a_password_in_the_address_is_not_shown(served, config, tmp_path):
  server = served(lambda *_: faulty.error(404, "no"))
  address = server.base_url.replace("://", "://user:pass-5151@")
  (outcome,), _ = call(config, tmp_path, address)
  assert server.base_url in str(outcome)
  assert "5151" not in str(outcome)


@pytest.mark.parametrize("status", [413, 422])
@pytest.mark.parametrize(
  "body",
  [
    {"error": {"message": "too large"}},
    {"detail": [{"type": "x", "loc": ["body", "messages"], "msg": "too large"}]},
    [{"error": {"message": "too large"}}],
    {"message": "too large"},
    b"too large",
  ],
  ids=str,
)
def test_the_words_of_a_rejection_are_read(served, config, tmp_path, status, body):
  server = served(lambda *_: (status, {}, body))
  (outcome,), _ = call(config, tmp_path, server.base_url)
  assert str(outcome) == f"failed: {status}: too large"
  assert len(server.requests) == 1


def test_the_key_is_sent_but_not_stored(served, config, tmp_path):
  server = served(lambda *_: "fine")
  call(config, tmp_path, server.base_url)
  assert server.keys == ["bearer sk-secret-5151"]
  for path in tmp_path.iterdir():
    assert b"sk-secret" not in path.read_bytes()


def test_the_token_limit_is_sent_under_the_configured_name(served, config, tmp_path):
  server = served(lambda *_: "fine")
  for name, other in (client_lib.LIMITS, client_lib.LIMITS[::-1]):
    config.limit_name = name
    call(config, tmp_path / name, server.base_url)
    assert server.requests[-1][name] == config.max_tokens
    assert other not in server.requests[-1]
  config.limit_name = "tokens"
  with pytest.raises(errors.UserError, match="limit_name='tokens': must be"):
    call(config, tmp_path, server.base_url)
