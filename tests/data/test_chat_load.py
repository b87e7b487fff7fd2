"""What loading a tokenizer and its chat template checks, and what it finds."""

import json
import types

import pytest
import transformers

from vpo_jax import errors
from vpo_jax.data import chat
from vpo_jax.data import examples as data_examples
from vpo_jax.decoder import config as decoder_config
from vpo_jax.sample import lm

USER = {"role": "user", "content": "Query: a red kite"}


@pytest.mark.parametrize(
  ("template", "message"),
  [
    ("{% for m in messages %}{{ m.content }", "the chat template fails: line 1: "),
    ("{{ messages[0].content + 1 }}", "the chat template fails: "),
    ("{{ raise_exception('no') }}", "the chat template fails: no"),
    ("{{ messages[0].content }}", "writes an answer elsewhere"),
    (
      "{% for m in messages %}{{ m.role + ':' + m.content }}{% endfor %}"
      "{% if add_generation_prompt %}assistant:<think>{% endif %}",
      "writes an answer elsewhere",
    ),
    (None, "has no chat template"),
  ],
)
def test_an_unusable_template_is_one_line_at_load(
  tiny_model, tmp_path, template, message
):
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.chat_template = template
  tokenizer.save_pretrained(tmp_path)
  with pytest.raises(errors.UserError, match=message) as raised:
    chat.load(tmp_path, 1024)
  assert "\n" not in str(raised.value)


def test_a_token_beyond_the_embedding_is_one_line_at_load(tiny_model, tmp_path):
  vocab = decoder_config.read(tiny_model).vocab
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.add_special_tokens({"pad_token": "<pad>"})
  tokenizer.save_pretrained(tmp_path)
  chat.load(tmp_path, vocab)  # padding alone is never part of an input
  tokenizer.add_tokens(["<query>"])
  tokenizer.save_pretrained(tmp_path)
  message = f"id {vocab + 1}, but the model's vocabulary has {vocab} tokens"
  with pytest.raises(errors.UserError, match=message):
    chat.load(tmp_path, vocab)


def test_padding_that_the_template_writes_must_have_an_embedding(tiny_model, tmp_path):
  vocab = decoder_config.read(tiny_model).vocab
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.add_special_tokens({"eos_token": "<end>", "pad_token": "<end>"})
  tokenizer.save_pretrained(tmp_path)
  with pytest.raises(errors.UserError, match=f"a token with id {vocab}, but"):
    chat.load(tmp_path, vocab)


def test_a_placeholder_beyond_the_embedding_sets_only_its_row_aside(
  tiny_model, tmp_path
):
  """As Gemma 3's of images, which its text models do not know."""
  vocab = decoder_config.read(tiny_model).vocab
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
  tokenizer.save_pretrained(tmp_path)
  ours = chat.load(tmp_path, vocab)
  answer = {"role": "assistant", "content": "A red kite."}
  rows = [
    {"messages": [USER, answer]},
    {"messages": [{"role": "user", "content": "<image> a kite"}, answer]},
    {"messages": [USER, {"role": "assistant", "content": "An <image>."}]},
    {"prompt": "<image>", "completion": "a kite"},
  ]
  (tmp_path / "rows.json").write_text(json.dumps(rows))
  examples, aside = data_examples.read(tmp_path / "rows.json", ours, "sft", 512)
  assert len(examples) == 1
  assert len(aside) == 3
  assert all("contains <image>, for which the model has no" in r.reason for r in aside)


def test_an_end_that_is_not_marked_as_special_ends_an_answer(tiny_model, tmp_path):
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.add_tokens(["<turn>", "</turn>"])
  tokenizer.chat_template = (
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
  )
  tokenizer.save_pretrained(tmp_path)
  ours = chat.load(tmp_path, len(tokenizer))
  end = tokenizer.convert_tokens_to_ids("</turn>")
  assert ours.end == end
  assert end in ours.stops
  assert "</turn>" in ours.markers()
  _, (response,) = ours.example([USER], ["A red kite."])
  assert response[-1] == end
  assert end not in response[:-1]
  sampled = types.SimpleNamespace(format=ours, header=(), answer=str.strip)
  assert lm.Prompter.decode(sampled, response) == "A red kite."


def test_an_answer_with_an_end_token_is_refused_without_one_in_the_template(
  tiny_model, tmp_path
):
  """It would be cut there without a word."""
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.chat_template = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
  )
  tokenizer.save_pretrained(tmp_path)
  ours = chat.load(tmp_path, len(tokenizer))
  _, (response,) = ours.example([USER], ["A kite. B."])
  assert response[-1] == tokenizer.eos_token_id
  with pytest.raises(ValueError, match="contains the model's end token"):
    ours.example([USER], [f"A kite.{tokenizer.eos_token} B."])


def test_the_date_is_the_same_on_every_day(tiny_model, tmp_path):
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  tokenizer.chat_template = (
    "Today: {{ strftime_now('%d %b %Y') }}\n"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
  )
  tokenizer.save_pretrained(tmp_path)
  ours = chat.load(tmp_path, len(tokenizer))
  assert ours.render([USER]).startswith("Today: 26 Jul 2024\n")
