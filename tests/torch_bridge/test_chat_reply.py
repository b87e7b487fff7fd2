"""A reply's text is the answer, never the reasoning, in any form that servers send."""

import pytest

from torch_bridge import api_errors, chat_reply


def completion(content="", finish_reason="stop", choice=None, usage=(7, 3), **message):
  choice = {"index": 0, "finish_reason": finish_reason} | (choice or {})
  choice["message"] = {"role": "assistant", "content": content} | message
  counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
  return {"object": "chat.completion", "choices": [choice], "usage": counts}


@pytest.mark.parametrize(
  "text",
  [
    "<think>A draft: no.</think>\n\nyes",
    "The template opened the tag. No.\n</think>\nyes",
    "<think>no</think> no <think>no</think> yes",
    "<think>no <think>no</think> no</think> yes",
    "yes <think>but this was cut",
    "<THINK>no</Think>yes",
    "<seed:think>no</seed:think>yes",
    "[THINK]no[/THINK]yes",
    "◁think▷no◁/think▷yes",
    "<|START_THINKING|>no<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>",
    "<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final"
    "<|message|>yes<|return|>",
    "<thinking>no</thinking>\nyes",
    "<thought>no</thought>yes",
    "no</thought> yes",
    "yes\n<reasoning>no</reasoning>",
    "yes <reasoning>no",
    "<reflection>Is it no?</reflection>yes",
    "<scratchpad>no</scratchpad>\nyes",
  ],
)
def test_reasoning_between_tags_is_removed(text):
  reply = chat_reply.read(completion(text))
  assert (reply.text, reply.reasoned) == ("yes", True)


@pytest.mark.parametrize(
  "text", ["<think>hm", "\n<think>\na</think>b<think>c", "[THINK]a", "<thinking>a"]
)
@pytest.mark.parametrize("finish", ["length", "max_tokens", None])
def test_nothing_after_an_unclosed_tag_is_an_answer(text, finish):
  reply = chat_reply.read(completion(text, finish))
  assert reply.text in ("", "b")
  assert reply.finish_reason == "length"


@pytest.mark.parametrize(
  "text", ["  kept as it is\n", "I think <b>so</b>", "<thinkpad> </thinker>"]
)
def test_text_without_reasoning_is_not_changed(text):
  reply = chat_reply.read(completion(text))
  assert (reply.text, reply.reasoned) == (text, False)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_fields_of_reasoning_are_not_read(field):
  reply = chat_reply.read(completion("yes", **{field: "no"}))
  assert (reply.text, reply.reasoned) == ("yes", True)
  cut = chat_reply.read(completion(None, "length", **{field: "no"}))
  assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("", "length", 3)
  empty = chat_reply.read(completion(None, "stop", usage=None, **{field: "no"}))
  assert (empty.text, empty.finish_reason) == ("", "stop")


@pytest.mark.parametrize(
  "parts",
  [
    [{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "yes"}],
    [
      {"type": "redacted_thinking", "data": "no"},
      {"type": "output_text", "text": "yes"},
    ],
    [{"type": "reasoning", "text": "no"}, {"type": "text", "text": "yes"}],
    [{"text": "no", "thought": True}, {"text": "yes"}],
    [{"type": "text", "text": "<think>no</think>ye"}, {"type": "text", "text": "s"}],
    [{"type": "text", "text": "ye"}, {"type": "reference", "ids": [1]}, "s"],
    [{"type": "text", "text": {"value": "yes"}}],
    {"type": "text", "text": "yes"},
  ],
  ids=str,
)
def test_the_text_parts_are_the_reply(parts):
  assert chat_reply.read(completion(parts)).text == "yes"


def test_thinking_parts_alone_are_a_reply_without_an_answer():
  parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}]
  reply = chat_reply.read(completion(parts, "length"))
  assert (reply.text, reply.reasoned, reply.completion_tokens) == ("", True, 3)


@pytest.mark.parametrize(
  "body",
  [
    completion(None, refusal="declined"),
    completion("", refusal="declined"),
    completion([{"type": "refusal", "refusal": "declined"}]),
    completion("declined", "content_filter"),
    *[
      completion(None, reason, usage=None)
      for reason in (
        "SAFETY",
        "RECITATION",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "IMAGE_SAFETY",
        "FINISH_REASON_SAFETY",
        "content_filter: PROHIBITED_CONTENT",
        "guardrail_intervened",
        "content_filtered",
        "refusal",
        "sensitive",
      )
    ],
    completion(None, "error", {"native_finish_reason": "SAFETY"}),
    completion("", "stop", {"content_filter_results": {"hate": {"filtered": True}}}),
    {"choices": [], "promptFeedback": {"blockReason": "OTHER"}},
    {"choices": None, "prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}},
    {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}},
    {
      "choices": [],
      "prompt_filter_results": [
        {"content_filter_results": {"jailbreak": {"detected": True, "filtered": True}}}
      ],
    },
    {"error": {"code": 403, "message": "no", "metadata": {"flagged_input": "x"}}},
    completion("", "error", {"error": {"code": 502, "message": "Content Exists Risk"}}),
  ],
  ids=str,
)
def test_a_refusal_is_a_reply_in_any_form(body):
  reply = chat_reply.read(body)
  assert reply.refusal
  assert "filter" in reply.finish_reason or reply.text == "declined"


@pytest.mark.parametrize(
  "extra",
  [
    {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}},
    # Azure's filter did not run; that is no refusal.
    {"content_filter_results": {"error": {"code": "content_filter_error"}}},
    {"content_filter_results": {"protected_material_code": {"filtered": True}}},
  ],
  ids=str,
)
def test_an_annotated_answer_is_an_answer(extra):
  reply = chat_reply.read(completion("yes", "stop", extra))
  assert (reply.text, reply.refusal) == ("yes", False)


def test_an_empty_error_beside_an_answer_is_none():
  reply = chat_reply.read(completion("yes") | {"error": {"message": "", "code": 0}})
  assert (reply.text, reply.refusal) == ("yes", False)


@pytest.mark.parametrize(
  ("body", "status", "kind"),
  [
    ({"choices": []}, 200, api_errors.Kind.BUSY),
    ({"choices": None, "usage": None}, 200, api_errors.Kind.BUSY),
    ({"choices": [None]}, 200, api_errors.Kind.BUSY),
    (["x"], 200, api_errors.Kind.BUSY),
    (None, 200, api_errors.Kind.BUSY),
    ("<html>hi</html>", 200, api_errors.Kind.BUSY),
    (completion(None, usage=None), 200, api_errors.Kind.BUSY),
    (completion("half", "error"), 200, api_errors.Kind.BUSY),
    (completion("half", "insufficient_system_resource"), 200, api_errors.Kind.BUSY),
    ({"error": "busy"}, 0, api_errors.Kind.BUSY),
    ({"error": {"code": 429, "message": "slow"}}, 429, api_errors.Kind.BUSY),
    ({"error": {"code": 402, "message": "pay"}}, 402, api_errors.Kind.BILLING),
    ([{"error": {"code": 402, "message": "pay"}}], 402, api_errors.Kind.BILLING),
    ({"error": {"code": "401", "message": "who"}}, 401, api_errors.Kind.KEY),
    ({"object": "error", "code": 404, "message": "x"}, 404, api_errors.Kind.MODEL),
    ({"code": 400, "msg": "too long"}, 400, api_errors.Kind.REJECTED),
    (
      completion("", "error", {"error": {"code": 502, "message": "down"}}),
      502,
      api_errors.Kind.BUSY,
    ),
  ],
  ids=str,
)
def test_anything_else_is_an_error(body, status, kind):
  with pytest.raises(api_errors.ServerError) as caught:
    chat_reply.read(body)
  assert (caught.value.error.status, caught.value.error.kind) == (status, kind)


@pytest.mark.parametrize(
  ("usage", "counts"),
  [
    (None, (0, 0)),
    ([], (0, 0)),
    ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, (7, 3)),
    ({"input_tokens": 7, "output_tokens": 3}, (7, 3)),
    ({"promptTokenCount": 7, "candidatesTokenCount": 3}, (7, 3)),
    ({"prompt_tokens": 7, "total_tokens": 10}, (7, 3)),
    ({"prompt_tokens": "7", "completion_tokens": 3.0}, (7, 3)),
    ({"prompt_tokens": "many", "completion_tokens": -1}, (0, 0)),
    # Reasoning that is in the total only.
    ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 60}, (7, 53)),
  ],
  ids=str,
)
def test_tokens_are_counted_under_any_name_and_never_lose_a_reply(usage, counts):
  reply = chat_reply.read(completion("yes") | {"usage": usage})
  assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("yes", *counts)


def test_empty_choices_that_cost_tokens_are_counted():
  body = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
  reply = chat_reply.read(body)
  assert (reply.text, reply.completion_tokens) == ("", 3)


def test_half_a_surrogate_pair_becomes_the_replacement_character():
  for body in (completion("a\ud83d b"), completion(None, refusal="a\ud83d b")):
    assert chat_reply.read(body).text == "a\ufffd b"
  assert chat_reply.read(completion("\U0001f600")).text == "\U0001f600"
