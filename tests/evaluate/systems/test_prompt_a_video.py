"""Prompt-A-Video's model writes the assistant's header itself."""

import dataclasses

import pytest
import transformers

from vpo_jax import errors, records, stages
from vpo_jax.data import chat
from vpo_jax.sample import lm

TASK = "Refine it. Original prompt:\n{query}\nNew prompt:\n"


@pytest.fixture(scope="module")
def instruction(tmp_path_factory):
  path = tmp_path_factory.mktemp("task") / "task.txt"
  path.write_text(TASK)
  return path


@pytest.fixture(scope="module")
def without_header(tiny_model, instruction):
  return lm.load(str(tiny_model), instruction=str(instruction), generation_prompt=False)


def test_the_prompt_ends_with_the_users_turn(without_header, tiny_model, instruction):
  with_header = lm.load(str(tiny_model), instruction=str(instruction))
  ours = without_header.prompt("a cat").rendered
  messages = [{"role": "user", "content": TASK.replace("{query}", "a cat")}]
  tokenizer = without_header.format.tokenizer
  assert ours == tokenizer.apply_chat_template(messages, tokenize=False)
  assert with_header.prompt("a cat").rendered == f"{ours}<|im_start|>assistant\n"


def test_the_reply_is_cut_at_the_headers_tokens_only(without_header):
  def decode(text):
    return without_header.decode(without_header.format.tokens(text))

  header = "<|im_start|>assistant"
  assert decode(f"{header}\nA cat.<|im_end|>") == "A cat."
  assert decode(f"{header}\nA shop assistant\nwaves.") == "A shop assistant\nwaves."
  assert decode("A cat and its assistant.") == "A cat and its assistant."
  assert decode(f"No.\n{header}\nA cat.") == "A cat."
  assert decode(header) == ""


def test_the_header_may_be_of_several_special_tokens(without_header, tiny_model):
  """As Llama-3's, whose header ends with two line breaks."""
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tiny_model)
  marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
  tokenizer.add_special_tokens({"additional_special_tokens": marks})
  tokenizer.chat_template = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
  )
  end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
  format = chat.Format(tokenizer, end, (end,), vocab=len(tokenizer))
  header = "<|start_header_id|>assistant<|end_header_id|>"
  assert format.header() == format.tokens(header)
  model = dataclasses.replace(
    without_header, format=format, header=tuple(format.header())
  )
  reply = f"{header}\n\nAn assistant\nhelps the assistant.<|eot_id|>"
  assert model.decode(format.tokens(reply)) == "An assistant\nhelps the assistant."
  prompt = model.prompt("a cat").rendered
  assert prompt.endswith("a cat\nNew prompt:<|eot_id|>")


def test_a_row_samples_with_prompt_a_videos_settings(place, tiny_model, instruction):
  settings = place.config.prompt_a_video
  wanted = (settings.temperature, settings.top_p, settings.top_k, settings.seed)
  assert wanted == (1.0, 1.0, 50, 42)
  settings.max_new_tokens = 8
  row = f"pav=prompt_a_video {tiny_model} template={instruction}"
  first = place.write(row)
  assert set(first) == {"0", "1", "2"}
  settings.slots = 2  # execution only
  assert place.write(row) == first
  folder = place.folder / "systems" / "pav" / "sample"
  assert (folder / "instruction.txt").read_text() == TASK
  for found in records.read(folder / "candidates.jsonl", records.Candidates):
    assert found.settings["top_k"] == 50
  settings.generation_prompt = True
  with pytest.raises(errors.UserError, match="generation_prompt was False"):
    place.write(row)
  assert stages.finished_counts(folder)["candidates"] == 3


def test_wrong_templates_and_counts_are_one_line(place, tiny_model, tmp_path):
  (tmp_path / "wrong.txt").write_text("Refine it.")
  row = f"pav=prompt_a_video {tiny_model} template={tmp_path / 'wrong.txt'}"
  with pytest.raises(errors.UserError, match=r"must contain \{query\} once"):
    place.write(row)
  place.config.prompt_a_video.num_candidates = 4
  with pytest.raises(errors.UserError, match=r"prompt_a_video\.num_candidates=4"):
    place.write(row)
