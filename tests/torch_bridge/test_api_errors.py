"""What an error means does not depend on the form in which a provider sends it."""

import json

import pytest

from torch_bridge import api_errors

KIND = api_errors.Kind


def error(message="no", **fields):
  return {"error": {"message": message} | fields}


@pytest.mark.parametrize(
  ("status", "body"),
  [
    (400, error(code="content_filter")),
    (400, error(code="400", innererror={"code": "ResponsibleAIPolicyViolation"})),
    (400, error(innererror={"content_filter_result": {"hate": {"filtered": True}}})),
    (400, error(code="content_policy_violation")),
    (400, error("Your prompt was flagged as potentially violating our usage policy.")),
    (400, error("Content Exists Risk", code="invalid_request_error")),
    (400, error(code="data_inspection_failed")),
    (400, error("was rejected because it was considered high risk", type="x")),
    (400, error("Output blocked by content filtering policy")),
    (400, error(code="1301", type="x")),
    (400, error("Violated guardrail policy")),
    (400, error("litellm.BadRequestError: litellm.ContentPolicyViolationError: no")),
    (400, error("Error code: 400 - {'error': {'code': 'content_filter'}}")),
    (400, [error("The prompt was blocked due to PROHIBITED_CONTENT")]),
    (403, error(code=403, metadata={"reasons": ["violence"], "flagged_input": "x"})),
    (403, {"code": "x", "error": "Content violates usage guidelines."}),
    (403, error("Input flagged by moderation", code="moderation_flagged")),
    (400, error("Violated content safety policy")),
    (400, error("Blocked PII entity detected: EMAIL by guardrail presidio")),
    (400, error("{'action': 'GUARDRAIL_INTERVENED', 'outputs': []}")),
    (422, {"detail": [{"type": "content_filter", "msg": "no"}]}),
    (429, error(code="content_filter")),
    (500, error("litellm.ContentPolicyViolationError: AzureException")),
    (502, error(metadata={"raw": json.dumps(error(code="content_filter"))})),
    (200, {"promptFeedback": {"blockReason": "BLOCKLIST"}}),
  ],
  ids=str,
)
def test_a_content_filter_is_a_refusal_behind_any_status(status, body):
  for form in (body, json.dumps(body), json.dumps(body).encode()):
    assert api_errors.read(status, form).kind is KIND.REFUSED


@pytest.mark.parametrize(
  ("status", "body", "kind"),
  [
    (400, error("too long"), KIND.REJECTED),
    (413, error("Request too large", code="rate_limit_exceeded"), KIND.REJECTED),
    (
      422,
      {"detail": [{"msg": "bad", "input": "ContentPolicyViolation"}]},
      KIND.REJECTED,
    ),
    (503, error("the filter is down", code="content_filter_error"), KIND.BUSY),
    (400, error(code="model_not_found"), KIND.MODEL),
    (400, error("API key not valid. Please pass a valid API key."), KIND.KEY),
    (401, "", KIND.KEY),
    (403, error("forbidden"), KIND.KEY),
    (402, error("Insufficient Balance"), KIND.BILLING),
    (400, error("Your credit balance is too low"), KIND.BILLING),
    (403, error("Enable billing first"), KIND.BILLING),
    (429, error(code="insufficient_quota"), KIND.BILLING),
    (429, error(type="insufficient_quota"), KIND.BILLING),
    (429, error("exceeded your quota, check your billing details"), KIND.BILLING),
    (403, error("You have no credits"), KIND.BILLING),
    (429, error("Not enough credits"), KIND.BILLING),
    (400, error("invalid prompt: 'a man has no credits left'"), KIND.REJECTED),
    (
      429,
      error(
        "Rate limit reached. Visit your account/billing to add a payment method.",
        code="rate_limit_exceeded",
      ),
      KIND.BUSY,
    ),
    (404, error("no model"), KIND.MODEL),
    (405, {"detail": "Method Not Allowed"}, KIND.MODEL),
    (410, error("retired"), KIND.MODEL),
    (400, error(code="unsupported_parameter"), KIND.PARAMETER),
    (422, {"message": {"detail": [{"type": "extra_forbidden"}]}}, KIND.PARAMETER),
    (408, "", KIND.BUSY),
    (429, error("slow down"), KIND.BUSY),
    (503, "<html><head><title>503</title></head></html>", KIND.BUSY),
    (529, error(type="overloaded_error"), KIND.BUSY),
  ],
  ids=str,
)
def test_other_errors_are_what_they_say(status, body, kind):
  assert api_errors.read(status, body).kind is kind


def test_a_limit_by_the_minute_is_temporary_although_it_mentions_billing():
  details = [{"@type": "RetryInfo", "retryDelay": "34s"}]
  body = [error("check your plan and billing details", code=429, details=details)]
  found = api_errors.read(429, body)
  assert (found.kind, found.wait_s) == (KIND.BUSY, 34)


@pytest.mark.parametrize(
  ("body", "message"),
  [
    (error("two\n lines"), "two lines"),
    ({"error": "text"}, "text"),
    ({"message": "text"}, "text"),
    ({"detail": "text"}, "text"),
    ({"detail": [{"loc": ["body"], "msg": "text", "input": "echo"}]}, "text"),
    ([error("text")], "text"),
    (["text"], "text"),
    ("text", "text"),
    (b"\xfftext", "\ufffdtext"),
    ("<html><head><title>text</title></head><body>x</body></html>", "text"),
    ("<html><body><h1>text</h1></body></html>", "text"),
    ('{"error": "cut', '{"error": "cut'),
    (error("outer", metadata={"raw": '{"error": {"message": "in"}}'}), "outer; in"),
    (error("half \ud83d"), "half \ufffd"),
    (error(None, code="some_code"), "some_code"),
    ({}, "Bad Gateway"),
    (None, "Bad Gateway"),
    (b"", "Bad Gateway"),
  ],
  ids=str,
)
def test_the_message_is_the_servers_own_words(body, message):
  assert api_errors.read(502, body).message == message


def test_deep_json_is_read_without_a_traceback():
  deep = "[" * 100_000 + "]" * 100_000
  assert api_errors.read(500, deep).kind is KIND.BUSY


def test_a_secret_is_removed_before_the_line_is_cut():
  line = api_errors.one_line("x" * 190 + " sk-secret-5151", "sk-secret-5151")
  assert line.endswith("x (key)")
  assert "sk-" not in line
