"""Every form of training rows gives the same tokens and trains the same ones."""

import json

import numpy as np
import pytest

from vpo_jax import errors
from vpo_jax.data import chat, forest, packing
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config

QUERY, ANSWER, WORSE = "Query: a red kite", "A red kite climbs over a beach.", "A kite."


def user(text):
  return {"role": "user", "content": text}


def assistant(text):
  return {"role": "assistant", "content": text}


def human(text):
  return {"from": "human", "value": text}


def gpt(text):
  return {"from": "gpt", "value": text}


def parts(role, *texts):
  return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


SFT = {
  "messages": {"messages": [user(QUERY), assistant(ANSWER)]},
  "messages with other columns": {
    "messages": [user(QUERY), assistant(ANSWER)],
    "prompt": QUERY,
    "id": 7,
    "tools": None,
    "images": [],
  },
  "text parts": {
    "messages": [parts("user", "Query: ", "a red kite"), parts("assistant", ANSWER)]
  },
  "TRL": {"prompt": [user(QUERY)], "completion": [assistant(ANSWER)]},
  "alpaca": {"instruction": "Query:", "input": "", "output": ANSWER}
  | {"instruction": QUERY},
  "alpaca without input": {"instruction": QUERY, "output": ANSWER, "history": []},
  "alpaca with a null": {"instruction": QUERY, "input": None, "output": ANSWER},
  "sharegpt": {"conversations": [human(QUERY), gpt(ANSWER)]},
  "sharegpt, role and content": {"conversations": [user(QUERY), assistant(ANSWER)]},
}
DPO = {
  "LLaMA-Factory": {
    "messages": [user(QUERY)],
    "chosen": assistant(ANSWER),
    "rejected": assistant(WORSE),
  },
  "TRL": {
    "prompt": [user(QUERY)],
    "chosen": [assistant(ANSWER)],
    "rejected": [assistant(WORSE)],
  },
  "TRL, a prompt that the conversations repeat": {
    "prompt": [user(QUERY)],
    "chosen": [user(QUERY), assistant(ANSWER)],
    "rejected": [user(QUERY), assistant(WORSE)],
  },
  "TRL, implicit": {
    "chosen": [user(QUERY), assistant(ANSWER)],
    "rejected": [user(QUERY), assistant(WORSE)],
  },
  "implicit, with other columns": {
    "prompt": QUERY,
    "messages": [user(QUERY), assistant(ANSWER)],
    "chosen": [user(QUERY), assistant(ANSWER)],
    "rejected": [user(QUERY), assistant(WORSE)],
    "score_chosen": 8.0,
  },
  "text parts": {
    "prompt": [parts("user", QUERY)],
    "chosen": [parts("assistant", ANSWER)],
    "rejected": parts("assistant", WORSE),
  },
  "alpaca": {"instruction": QUERY, "input": "", "chosen": ANSWER, "rejected": WORSE},
  "sharegpt": {
    "conversations": [human(QUERY)],
    "chosen": gpt(ANSWER),
    "rejected": gpt(WORSE),
  },
  "sharegpt, role and content": {
    "conversations": [user(QUERY)],
    "chosen": assistant(ANSWER),
    "rejected": assistant(WORSE),
  },
}


@pytest.fixture(scope="module")
def chat_format(tiny_model):
  return chat.load(tiny_model, decoder_config.read(tiny_model).vocab)


def read(tmp_path, chat_format, kind, *rows):
  path = tmp_path / "rows.json"
  path.write_text(json.dumps(rows))
  return data_examples.read(path, chat_format, kind, 512)


def trained(chat_format, example):
  """The prompt's text, and the texts of the tokens whose loss is summed."""
  plan = packing.plan(
    [example], [[0]], groups=1, budget=1024, flops_per_token=lambda keys: 1.0
  )
  (micro,) = plan.steps[0]
  batch = forest.build([example], plan.shapes[0], micro)
  decode = chat_format.tokenizer.decode
  used = batch.leaf_GP[0] < len(example.responses)
  targets, leaves = batch.target_GP[0][used], batch.leaf_GP[0][used]
  responses = [
    decode(targets[leaves == leaf].tolist()) for leaf in range(len(example.responses))
  ]
  first = [batch.source_GP[0][used][leaves == leaf][0] for leaf in np.unique(leaves)]
  # The first token of each response is predicted from the prompt's last token.
  assert len(set(first)) == 1
  return decode(batch.tokens_GL[0][: first[0] + 1].tolist()), responses


@pytest.mark.parametrize("name", SFT)
def test_every_sft_form_trains_the_answer_and_its_end(tmp_path, chat_format, name):
  (example,), aside = read(tmp_path, chat_format, "sft", SFT[name])
  assert not aside
  prompt, responses = trained(chat_format, example)
  assert prompt == chat_format.render([user(QUERY)])
  assert responses == [ANSWER + "<|im_end|>"]


@pytest.mark.parametrize("name", DPO)
def test_every_preference_form_trains_both_answers(tmp_path, chat_format, name):
  (example,), aside = read(tmp_path, chat_format, "dpo", DPO[name])
  assert not aside
  prompt, responses = trained(chat_format, example)
  assert prompt == chat_format.render([user(QUERY)])
  assert responses == [ANSWER + "<|im_end|>", WORSE + "<|im_end|>"]


@pytest.mark.parametrize(
  ("kind", "row"),
  [
    ("sft", {"prompt": QUERY, "completion": " " + ANSWER}),
    ("dpo", {"prompt": QUERY, "chosen": " " + ANSWER, "rejected": " " + WORSE}),
  ],
)
def test_plain_text_is_trained_without_the_chat_template(
  tmp_path, chat_format, kind, row
):
  (example,), _ = read(tmp_path, chat_format, kind, row)
  prompt, responses = trained(chat_format, example)
  assert prompt == QUERY
  assert responses == [
    f" {text}<|im_end|>" for text in (ANSWER, WORSE)[: len(responses)]
  ]


EARLIER = [user("Hi"), assistant("Hello.")]


@pytest.mark.parametrize(
  "row",
  [
    {"messages": [*EARLIER, user("a\nb"), assistant(ANSWER)], "system": "Be brief."},
    {
      "messages": [
        {"role": "system", "content": "Be brief."},
        *EARLIER,
        user("a\nb"),
        assistant(ANSWER),
      ]
    },
    {
      "instruction": "a",
      "input": "b",
      "output": ANSWER,
      "system": "Be brief.",
      "history": [["Hi", "Hello."]],
    },
    {
      "conversations": [human("Hi"), gpt("Hello."), human("a\nb"), gpt(ANSWER)],
      "system": "Be brief.",
    },
    {
      "prompt": [{"from": "system", "value": "Be brief."}, *EARLIER, user("a\nb")],
      "completion": assistant(ANSWER),
    },
  ],
)
def test_only_the_last_answer_of_a_conversation_is_trained(tmp_path, chat_format, row):
  (example,), _ = read(tmp_path, chat_format, "sft", row)
  prompt, responses = trained(chat_format, example)
  system = {"role": "system", "content": "Be brief."}
  assert prompt == chat_format.render([system, *EARLIER, user("a\nb")])
  assert responses == [ANSWER + "<|im_end|>"]


def test_conversations_continue_the_messages_of_a_prompt(tmp_path, chat_format):
  """As in TRL, whose chosen and rejected may have several messages."""
  more = [assistant("A kite?"), user("Yes, red.")]
  row = {
    "prompt": [{"role": "system", "content": "Be brief."}, user(QUERY)],
    "chosen": [*more, assistant(ANSWER)],
    "rejected": [*more, assistant(WORSE)],
  }
  (example,), _ = read(tmp_path, chat_format, "dpo", row)
  prompt, responses = trained(chat_format, example)
  assert prompt == chat_format.render([*row["prompt"], *more])
  assert responses == [ANSWER + "<|im_end|>", WORSE + "<|im_end|>"]


GOOD = {"sft": SFT["messages"], "dpo": DPO["TRL"]}


@pytest.mark.parametrize(
  ("kind", "row", "reason"),
  [
    ("sft", "a text", "not a JSON object; rows have messages; prompt and completion"),
    ("sft", {"text": ANSWER}, "none of the forms that are read: messages; prompt"),
    ("sft", {"prompt": QUERY}, "none of the forms"),
    ("sft", SFT["messages"] | SFT["alpaca"], "has messages and instruction"),
    ("sft", SFT["TRL"] | {"label": False}, "has label, which is not read"),
    ("sft", SFT["alpaca"] | {"kto_tag": True}, "has kto_tag"),
    ("sft", SFT["messages"] | {"images": ["a.png"]}, "has images"),
    ("sft", SFT["messages"] | {"tools": "[{}]"}, "has tools"),
    ("sft", {"messages": []}, "messages is not a list of messages"),
    ("sft", {"messages": [user(QUERY)]}, "the last message of messages is not the ass"),
    ("sft", {"messages": [assistant(ANSWER)]}, "before the response is not a user's"),
    ("sft", {"messages": [user(QUERY), assistant(" \n")]}, "the response is empty"),
    (
      "sft",
      {"messages": [user(None), assistant(ANSWER)]},
      "content in messages is not",
    ),
    (
      "sft",
      {"messages": [user(QUERY), {"role": "tool", "content": "7"}, assistant(ANSWER)]},
      "role 'tool', which is not read",
    ),
    (
      "sft",
      {"messages": [user(QUERY), assistant(ANSWER) | {"tool_calls": [{}]}]},
      "has tool_calls",
    ),
    (
      "sft",
      {"messages": [user(QUERY), assistant(ANSWER) | {"weight": 0}]},
      "has weight 0",
    ),
    (
      "sft",
      {"messages": [user([{"type": "image"}]), assistant(ANSWER)]},
      "has a part of type 'image'; only text is read",
    ),
    ("sft", {"prompt": [user(QUERY)], "completion": ANSWER}, "completion is a text"),
    (
      "sft",
      {"prompt": QUERY, "completion": [assistant(ANSWER)]},
      "prompt is not a list",
    ),
    (
      "sft",
      {"prompt": [user(QUERY)], "completion": [assistant(ANSWER), user("Thanks")]},
      "completion has 2 messages",
    ),
    (
      "sft",
      {"messages": [user(QUERY), assistant(ANSWER + "<|im_end|>" + WORSE)]},
      "contains the model's end token",
    ),
    (
      "sft",
      {"instruction": QUERY, "output": ANSWER, "history": [["a"]]},
      "history is not a list of pairs",
    ),
    ("sft", SFT["alpaca"] | {"history": 5}, "history is not a list of pairs"),
    ("sft", SFT["alpaca"] | {"instruction": ""}, "the prompt is empty"),
    ("sft", {"messages": [user(" "), assistant(ANSWER)]}, "the prompt is empty"),
    ("sft", SFT["messages"] | {"image": "a.png"}, "has image, which is not read"),
    ("sft", {"messages": [user(QUERY) | {"role": ["user"]}]}, "role ['user'], which"),
    (
      "sft",
      {"prompt": QUERY, "completion": ANSWER, "system": "Be brief."},
      "has system, but a plain text has no chat template",
    ),
    (
      "dpo",
      {"prompt": QUERY, "chosen": ANSWER, "rejected": WORSE, "system": "Be brief."},
      "has system, but a plain text has no chat template",
    ),
    (
      "sft",
      {
        "system": "Be brief.",
        "messages": [
          {"role": "system", "content": "Be long."},
          user(QUERY),
          assistant(ANSWER),
        ],
      },
      "has a system message and the column system",
    ),
    (
      "dpo",
      DPO["TRL, implicit"] | {"messages": [user("another query")]},
      "has whole conversations, which do not begin with messages",
    ),
    (
      "dpo",
      DPO["TRL, implicit"] | {"prompt": "another query"},
      "has whole conversations, which do not contain prompt",
    ),
    ("dpo", SFT["messages"], "chosen or rejected is missing"),
    ("dpo", {"chosen": ANSWER, "rejected": WORSE}, "none of the forms"),
    (
      "dpo",
      DPO["TRL"] | {"rejected": DPO["TRL"]["chosen"]},
      "chosen and rejected are e",
    ),
    ("dpo", DPO["LLaMA-Factory"] | {"chosen": ANSWER}, "chosen is a text"),
    ("dpo", DPO["LLaMA-Factory"] | {"prompt": QUERY}, "has messages and prompt"),
    (
      "dpo",
      DPO["TRL, implicit"] | {"rejected": [user("b"), assistant(WORSE)]},
      "differ before their last message",
    ),
  ],
)
def test_other_rows_are_set_aside_with_a_reason(
  tmp_path, chat_format, kind, row, reason
):
  examples, aside = read(tmp_path, chat_format, kind, GOOD[kind], row)
  assert len(examples) == 1
  assert aside[0].reason.startswith("row 2: ")
  assert reason in aside[0].reason
  with pytest.raises(
    errors.UserError, match=f"no usable {kind} row; the first was set"
  ):
    read(tmp_path, chat_format, kind, row)


def test_half_of_a_surrogate_pair_sets_its_row_aside(tmp_path, chat_format):
  rows = [SFT["messages"], {"messages": [user("a \ud83d"), assistant(ANSWER)]}]
  _, (aside,) = read(tmp_path, chat_format, "sft", *rows)
  assert aside.reason == "row 2: a string has half of a surrogate pair"


ROW = (
  '{"messages": [{"role": "user", "content": "%s"},'
  ' {"role": "assistant", "content": "%s"}]}\n'
)


@pytest.mark.parametrize(
  ("content", "answers"),
  [
    ((ROW % ("a\u2028b", "One.") + ROW % ("c", "Two.")).encode(), ["One.", "Two."]),
    (b"\xef\xbb\xbf" + (ROW % ("a", "One.")).encode(), ["One."]),
    ((ROW % ("a \\ud83d", "One.") + ROW % ("c", "Two.")).encode(), ["Two."]),
    ((ROW % ("a", "One.") + ROW % ("c", "Two \\ude00.")).encode(), ["One."]),
    (f"[{ROW % ('a', 'One.')}, {ROW % ('b', 'Two.')}]".encode(), ["One.", "Two."]),
  ],
  ids=["line separator", "byte order mark", "query", "answer", "list"],
)
def test_files_from_the_field_are_read(tmp_path, chat_format, content, answers):
  path = tmp_path / "train.jsonl"
  path.write_bytes(content)
  examples, aside = data_examples.read(path, chat_format, "sft", 512)
  assert [trained(chat_format, one)[1] for one in examples] == [
    [answer + "<|im_end|>"] for answer in answers
  ]
  assert all("half of a surrogate pair" in row.reason for row in aside)


def test_a_file_in_another_encoding_is_one_line(tmp_path, chat_format):
  path = tmp_path / "train.jsonl"
  path.write_bytes((ROW % ("café", "One.")).encode("latin-1"))
  byte = (ROW % ("café", "One.")).index("é")
  message = f"train.jsonl: byte {byte} is not UTF-8; save the file as UTF-8"
  for read_file in (
    lambda: data_examples.read(path, chat_format, "sft", 512),
    lambda: data_examples.queries(path),
  ):
    with pytest.raises(errors.UserError, match=message):
      read_file()
