"""The Modelfile: the settings with which Ollama runs a model.

https://docs.ollama.com/modelfile; its TEMPLATE is one of Go's text/template. Ollama's
parser drops characters that it cannot print, such as no-break spaces.
"""

import re
from collections.abc import Callable

import ml_collections

from vpo_jax import errors
from vpo_jax.data import chat

QUERY_TOKENS = 512  # room for the query

# The query is the last user message, as for our own server.
_LAST = (
  '{{ $query := "" }}{{ range .Messages }}{{ if eq .Role "user" }}'
  "{{ $query = .Content }}{{ end }}{{ end }}"
)
_MARKS = ("QUERY-5d1c", "query 7e2f")
_HEAD = """\
# ollama create vpo -f Modelfile
# ollama run vpo "a cat on a skateboard"
FROM ./{model}
"""
# Ollama prefers the file's own chat template, which lacks the instruction, to TEMPLATE
# if it knows of tools or reasoning, unless a PARSER is named. Ollama 0.12 knows PARSER.
_PARSER = "PARSER passthrough\n"


def parts(render: Callable[[str], str], where: str) -> tuple[str, str]:
  """What stands before and after the query in a rendered prompt.

  Args:
    render: from a query to its prompt.
    where: the model, for error messages.

  Raises:
    UserError: the chat template changes the query or depends on it.
  """
  before, _, after = render(_MARKS[0]).partition(_MARKS[0])
  if any(render(mark) != before + mark + after for mark in _MARKS):
    raise errors.UserError(
      f"{where}: the chat template changes the query, which a Modelfile cannot; export"
      " it with config.format=huggingface"
    )
  return before, after


def text(
  model: str,
  form: chat.Format,
  template: str,
  around: tuple[str, str],
  context: int,
  config: ml_collections.ConfigDict,
) -> str:
  """The Modelfile's content.

  Args:
    model: name of the GGUF file, which is in the same folder.
    form: of the model.
    template: the model's chat template.
    around: from `parts`, without a BOS token that llama.cpp adds.
    context: the model's longest sequence, in tokens.
    config: see configs/export.py.
  """
  before, after = around
  fixed = len(form.tokens(before)) + len(form.tokens(after))
  values = {
    "temperature": config.temperature,
    "top_p": config.top_p,
    # Ollama has other defaults; ours draw from the whole distribution.
    "top_k": 0,
    "min_p": 0,
    "repeat_penalty": 1,
    "num_predict": config.max_new_tokens,
    "num_ctx": min(context, fixed + QUERY_TOKENS + config.max_new_tokens),
  }
  lines = [f"PARAMETER {name} {value}" for name, value in values.items()]
  ends = [form.tokenizer.convert_ids_to_tokens(stop) for stop in form.stops]
  lines += [f'PARAMETER stop "{end}"' for end in ends]
  prompt = f"{_LAST}{_literal(before)}{{{{ $query }}}}{_literal(after)}"
  parser = _PARSER if re.search("tool|think", template) else ""
  head = _HEAD.format(model=model) + parser
  return f'{head}TEMPLATE """{prompt}"""\n' + "\n".join(lines) + "\n"


def _literal(text: str) -> str:
  """A text as Go's template that writes it, within a Modelfile's triple quotes."""
  risky = re.finditer(r'\{+|"""+|.', text, flags=re.DOTALL)
  return "".join(_escaped(found[0]) for found in risky)


def _escaped(part: str) -> str:
  safe = part[0] != "{" and not part.startswith('"""')
  if safe and (part.isprintable() or part in "\n\t"):
    return part
  return '{{ "' + "".join(map(_go, part)) + '" }}'


def _go(character: str) -> str:
  """A character in a Go string."""
  if character in '"\\':
    return f"\\{character}"
  if character.isprintable():
    return character
  return f"\\U{ord(character):08x}"
