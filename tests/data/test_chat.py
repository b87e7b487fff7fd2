"""Chats as tokens, beside what transformers and TRL make of the same rows."""

import dataclasses
import importlib.util
import json
import pathlib

import jinja2
import pytest
import transformers

from vpo_jax.data import chat, forms
from vpo_jax.data import examples as data_examples

# Of the same behaviour as the originals, which are not on PyPI.
LLAMA_2 = """\
{%- if messages[0]['role'] == 'system' -%}
  {{ raise_exception('system turns are not supported') }}
{%- endif -%}
{%- for message in messages -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}
  {%- endif -%}
  {%- if message['role'] == 'user' -%}
    {{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}
  {%- else -%}
    {{ ' ' + message['content'].strip() + ' ' + eos_token }}
  {%- endif -%}
{%- endfor -%}"""
MISTRAL = """\
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}
    {{ '[INST] ' + message['content'] + '[/INST]' }}
  {%- elif message['role'] == 'assistant' -%}
    {{ ' ' + message['content'] + eos_token }}
  {%- else -%}
    {{ raise_exception('only user and assistant turns are supported') }}
  {%- endif -%}
{%- endfor -%}"""


@dataclasses.dataclass(frozen=True)
class Family:
  """A model family's template, and the tokens that it writes.

  Attributes:
    template: its text, or the name of the file in TRL.
    bos: written once, before the first turn; "" if there is none.
    end: written after an assistant's turn.
    eos: the tokenizer's end token.
    words: further tokens of the template.
  """

  template: str
  bos: str
  end: str
  eos: str
  words: tuple[str, ...] = ()


HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
FAMILIES = {
  "Llama-3": Family(
    "llama3", "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", HEADERS
  ),
  "Llama-3.2": Family(
    "llama3_2", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", HEADERS
  ),
  "SmolLM2": Family("", "", "<|im_end|>", "<|im_end|>"),
  "Llama-2": Family(LLAMA_2, "<s>", "</s>", "</s>"),
  "Mistral": Family(MISTRAL, "<s>", "</s>", "</s>"),
  "Qwen2.5": Family("qwen2_5", "", "<|im_end|>", "<|endoftext|>"),
  "Qwen3": Family("qwen3", "", "<|im_end|>", "<|im_end|>"),
  "Gemma-2": Family("gemma", "<bos>", "<end_of_turn>", "<eos>", ("<start_of_turn>",)),
  "Gemma-3": Family("gemma3", "<bos>", "<end_of_turn>", "<eos>", ("<start_of_turn>",)),
}
# The original tokenizers of these write a word's space as part of the word.
SENTENCEPIECE = ("Llama-2", "Mistral")

USER = {"role": "user", "content": "Query: a red kite"}
PROMPTS = {
  "one turn": [USER],
  "white space": [{"role": "user", "content": " \n Query: a red kite \n\n"}],
  "several turns": [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    USER,
  ],
  "a system turn": [{"role": "system", "content": "Be brief."}, USER],
}
ANSWERS = [
  "A red kite climbs over a beach.",
  "\n  A red kite, then:\n- a beach\n\n",
  "Un cerf-volant rouge, très haut. 一只红色的风筝",
]


def _template(name):
  """A template by its file in TRL, which is not imported."""
  if "{" in name:
    return name
  (folder,) = importlib.util.find_spec("trl").submodule_search_locations
  return pathlib.Path(folder, "chat_templates", f"{name}.jinja").read_text()


def _sentencepiece():
  """A tokenizer in the manner of Llama-2's: pieces that begin with a space, bytes."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
  made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
  made.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
  )
  pieces = ["<unk>", *[f"<0x{byte:02X}>" for byte in range(256)]]
  trainer = trainers.BpeTrainer(
    vocab_size=400, special_tokens=pieces, show_progress=False
  )
  made.train_from_iterator([*ANSWERS, "[INST] Query: a red kite [/INST]"], trainer)
  return made


@pytest.fixture(params=FAMILIES)
def family(request, tiny_model, tmp_path):
  """A family's name, its tokenizer, and how it is loaded from its directory."""
  import tokenizers
  from tokenizers import processors

  made = FAMILIES[request.param]
  if request.param in SENTENCEPIECE:
    core = _sentencepiece()
  else:
    core = tokenizers.Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
  core.add_special_tokens([t for t in (made.bos, made.end, made.eos) if t])
  core.add_special_tokens(list(made.words))
  core.add_tokens(["<think>", "</think>"])
  if made.bos:  # as Llama's tokenizers do, unless told otherwise
    core.post_processor = processors.TemplateProcessing(
      single=[made.bos, "$A"], special_tokens=[(made.bos, core.token_to_id(made.bos))]
    )
  template = made.template
  if not template:
    template = (tiny_model / "chat_template.jinja").read_text()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=core,
    bos_token=made.bos or None,
    eos_token=made.eos,
    chat_template=_template(template),
  )
  tokenizer.save_pretrained(tmp_path)
  return made, tokenizer, chat.load(tmp_path, len(tokenizer))


def _theirs(tokenizer, messages, **options):
  """Tokens by transformers, as TRL asks for them; None if the template refuses."""
  try:
    return tokenizer.apply_chat_template(
      messages,
      tokenize=True,
      return_dict=False,
      enable_thinking=False,
      date_string="26 Jul 2024",  # of Llama-3.2's template without a clock
      **options,
    )
  except jinja2.TemplateError:
    return None


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", PROMPTS)
def test_tokens_are_those_of_transformers_and_trl(family, name, answer):
  """TRL trains what follows the prompt in the whole chat's tokens.

  The one difference: it also trains what a template writes after the end token.
  """
  made, tokenizer, ours = family
  messages = PROMPTS[name]
  prompt = _theirs(tokenizer, messages, add_generation_prompt=True)
  if prompt is None:
    with pytest.raises(jinja2.TemplateError):
      ours.example(messages, [])
    return
  whole = _theirs(tokenizer, [*messages, {"role": "assistant", "content": answer}])
  found, (response,) = ours.example(messages, [answer])
  assert found == prompt
  assert prompt + response == whole[: len(prompt + response)]
  assert not tokenizer.decode(whole[len(prompt + response) :]).strip()
  assert tokenizer.convert_ids_to_tokens(response[-1]) == made.end
  if made.bos:
    # Llama-2's template writes it before every user's turn.
    written = ours.render(messages).count(made.bos)
    assert prompt.count(tokenizer.convert_tokens_to_ids(made.bos)) == written > 0


def test_rows_are_read_with_every_template(family, tmp_path):
  """A row that the template refuses is set aside with the template's reason."""
  _, tokenizer, ours = family
  rows = [
    {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}
    for prompt in PROMPTS.values()
    for answer in ANSWERS
  ]
  rows.append({"messages": [USER, USER, {"role": "assistant", "content": "A."}]})
  path = tmp_path / "rows.json"
  path.write_text(json.dumps(rows))
  examples, aside = data_examples.read(path, ours, "sft", 512)
  refused = [
    row
    for row in rows
    if _theirs(tokenizer, list(forms.parse(row, "sft").prompt)) is None
  ]
  assert len(aside) == len(refused)
  assert len(examples) == len(rows) - len(refused)
  assert all("the chat template refuses it: " in row.reason for row in aside)


def test_an_answer_with_reasoning_tags(family):
  """Qwen3's template takes reasoning out of an answer: that row cannot be trained."""
  made, _, ours = family
  answer = "<think>\nhm\n</think>\n\nA red kite."
  if made.template == "qwen3":
    with pytest.raises(ValueError, match="changes the response"):
      ours.example([USER], [answer])
  else:
    _, (response,) = ours.example([USER], [answer])
    assert answer in ours.tokenizer.decode(response)


def test_reasoning_is_asked_for_only_on_request(family, tmp_path):
  """Qwen3 then reasons before its answer; other templates have no such choice."""
  made, tokenizer, ours = family
  asked = chat.load(tmp_path, len(tokenizer), reasoning=True)
  if made.template != "qwen3":
    assert asked.render([USER]) == ours.render([USER])
    return
  assert ours.render([USER]) == asked.render([USER]) + "<think>\n\n</think>\n\n"
  answer = "<think>\nhm\n</think>\n\nA red kite."
  _, (response,) = asked.example([USER], [answer])
  assert tokenizer.decode(response[:-1]) == answer


def test_every_end_token_stops_an_answer(family, tmp_path):
  """Of the template, the tokenizer, and of config.json or generation_config.json."""
  made, tokenizer, ours = family
  ends = {tokenizer.convert_tokens_to_ids(token) for token in (made.end, made.eos)}
  assert set(ours.stops) == ends
  (tmp_path / "config.json").write_text('{"eos_token_id": 5}')
  assert set(chat.load(tmp_path, len(tokenizer)).stops) == ends | {5}
  (tmp_path / "config.json").write_text('{"eos_token_id": [5, 6]}')
  assert set(chat.load(tmp_path, len(tokenizer)).stops) == ends | {5, 6}
  (tmp_path / "generation_config.json").write_text('{"eos_token_id": 7}')
  assert set(chat.load(tmp_path, len(tokenizer)).stops) == ends | {7}


def test_a_plain_text_does_not_begin_twice(family):
  made, tokenizer, ours = family
  prompt, (response,) = ours.plain_example("a red kite", [" climbs"])
  assert prompt == tokenizer("a red kite").input_ids
  assert prompt + response[:-1] == tokenizer("a red kite climbs").input_ids
  if made.bos:
    with pytest.raises(ValueError, match="begins with the BOS token"):
      ours.plain_example(f"{made.bos}a red kite", [" climbs"])
