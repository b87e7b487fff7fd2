"""A model's prompts and answers, and the model itself, ready to sample from."""

import concurrent.futures
import dataclasses
from typing import Any

from etils import epath
from jax.sharding import Mesh

from vpo_jax import errors, files, templates
from vpo_jax.data import chat
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import (
  decode_weights,
  sharding,
  source,
  table,
)
from vpo_jax.sample import cache, prefill

PRECISIONS = ("float32", "bfloat16", "int8")

# Queries and notes without a common prefix: the common prefix of their prompts is the
# stem. They start with many kinds of characters, because the first one may merge with
# the end of the instruction into one token.
_PROBES = (
  "A",
  "zebra 7",
  "7",
  '"a"',
  "(a",
  "-a",
  "...",
  "/a",
  "'s",
  " a",
  "\n",
  "é",
  "一",
)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """The input of the model.

  Attributes:
    rendered: the text, in the chat template.
    tokens: its token ids.
  """

  rendered: str
  tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Prompter:
  """Writes a model's prompts and reads its answers; it has no weights.

  Attributes:
    folder: the model's Hugging Face directory.
    config: its architecture.
    format: its tokenizer and chat template.
    instruction: the template with `{query}`.
    header: tokens of the assistant's header if the model writes it itself, because its
      prompts end with the user's turn; else empty.
  """

  folder: epath.Path
  config: decoder_config.DecoderConfig
  format: chat.Format
  instruction: str
  header: tuple[int, ...]

  @property
  def reads_notes(self) -> bool:
    """Whether the instruction has a place for a target's notes."""
    return "{notes}" in self.instruction

  def fingerprint(self) -> str:
    """Fingerprint of the directory's files; reads all of them."""
    return files.fingerprint(self.folder)

  def prompt(self, query: str, notes: str = "") -> Prompt:
    """The instruction's prompt for a query.

    Args:
      notes: of the target (`vpo_jax.promises.targets`).
    """
    content = templates.fill(self.instruction, query=query, notes=notes)
    return self.chat([{"role": "user", "content": content}])

  def chat(self, messages: list[dict[str, str]]) -> Prompt:
    """The prompt of any chat whose next message is the assistant's."""
    rendered = self.format.render(messages, generation_prompt=not self.header)
    return self.text(rendered)

  def text(self, rendered: str) -> Prompt:
    """The prompt of a text, without the chat template.

    Raises:
      UserError: the model does not know one of its tokens.
    """
    try:
      return Prompt(rendered, tuple(self.format.tokens(rendered)))
    except ValueError as error:
      raise errors.UserError(f"the prompt {error}") from error

  def from_tokens(self, tokens: list[int]) -> Prompt:
    """The prompt with these token ids.

    Raises:
      UserError: the model does not know one of them.
    """
    if unknown := [token for token in tokens if token >= self.format.vocab]:
      raise errors.UserError(
        f"the prompt has the token id {unknown[0]}; the model has {self.format.vocab}"
        " tokens"
      )
    return Prompt(self.format.tokenizer.decode(tokens), tuple(tokens))

  def decode(self, tokens: list[int]) -> str:
    """The answer in a response's tokens.

    If the model writes the header itself, the answer is what follows the last one.
    """
    if tokens and tokens[-1] in self.format.stops:  # not always a special token
      tokens = tokens[:-1]
    size = len(self.header)
    for start in range(len(tokens) - size, -1, -1) if size else ():
      if tuple(tokens[start : start + size]) == self.header:
        tokens = tokens[start + size :]
        break
    return self.answer(self.format.tokenizer.decode(tokens, skip_special_tokens=True))

  def answer(self, text: str) -> str:
    """The answer in a text without special tokens: stripped, without reasoning."""
    text = text.strip()
    if self.format.reasoning and "<think>" in text:
      # Empty if the answer ended before the reasoning did.
      text = text.partition("</think>")[2].strip()
    return text


@dataclasses.dataclass(frozen=True)
class LanguageModel(Prompter):
  """A loaded model, ready to sample from.

  Attributes:
    params: parameters in `precision`. Layers are a tuple, matrices and head are
      `decode_weights.Transposed` or `Quantized`, and the embedding has type
      `cache.storage_dtype(dtype)`.
    precision: one of `PRECISIONS`.
    stem_tokens: the common prefix of all prompts with the instruction.
    stem: the stem's keys and values.
    mesh: the devices.
  """

  params: table.Params
  precision: str
  stem_tokens: tuple[int, ...]
  stem: Any
  mesh: Mesh

  @property
  def dtype(self) -> str:
    """Operand type of the matrix products that are not in int8."""
    return _dtype(self.precision)


def load_prompter(
  model: str,
  *,
  instruction: str = "",
  notes: str = "",
  generation_prompt: bool = True,
  reasoning: bool = False,
) -> Prompter:
  """Loads a model's tokenizer, chat template and instruction; see `load`."""
  folder = source.resolve(model)
  config = decoder_config.read(folder)
  template = templates.of_model(folder, instruction, notes)
  return _prompter(folder, config, template, generation_prompt, reasoning)


def _prompter(
  folder: epath.Path,
  config: decoder_config.DecoderConfig,
  template: str,
  generation_prompt: bool,
  reasoning: bool,
) -> Prompter:
  chat_format = chat.load(folder, config.vocab, reasoning)
  header = () if generation_prompt else tuple(chat_format.header())
  if not (generation_prompt or header):
    raise errors.UserError(
      f"{folder}: the chat template writes no header before an answer; set"
      " config.generation_prompt=True"
    )
  return Prompter(folder, config, chat_format, template, header)


def load(
  model: str,
  *,
  precision: str = "float32",
  instruction: str = "",
  notes: str = "",
  generation_prompt: bool = True,
  reasoning: bool = False,
  mesh: Mesh | None = None,
) -> LanguageModel:
  """Loads a model directory, a hub id, or the embedded default.

  Args:
    model: as in `source.resolve`.
    precision: "float32"; "bfloat16", for devices with fast bfloat16 products; or
      "int8", for one prompt at a time on a CPU.
    instruction: path of a template; "" for the model's own or else the default.
    notes: of the only target that prompts are for; `Prompter.prompt` takes those of
      others.
    generation_prompt: whether a prompt ends with the assistant's header; if not, the
      model writes it.
    reasoning: whether a model that can reason does so before it answers; what it
      reasons is not part of the answer's text.
    mesh: the devices; None for one device.

  Raises:
    UserError: there is no such model or precision, the model cannot be loaded, or the
      instruction has no place for the notes.
  """
  if precision not in PRECISIONS:
    raise errors.UserError(
      f"precision {precision!r}: must be one of {', '.join(PRECISIONS)}"
    )
  folder = source.resolve(model)
  config = decoder_config.read(folder)
  template = templates.of_model(folder, instruction, notes)
  mesh = mesh or sharding.one_device_mesh()
  dtype = _dtype(precision)
  # Reading the weights does not hold the interpreter, and importing transformers does.
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    reading = thread.submit(decode_weights.load, folder, config, mesh, precision)
    prompter = _prompter(folder, config, template, generation_prompt, reasoning)
    params = reading.result()
  params["embed"] = params["embed"].astype(cache.storage_dtype(dtype))
  stem_tokens = _stem(prompter)
  return LanguageModel(
    **vars(prompter),
    params=params,
    precision=precision,
    stem_tokens=stem_tokens,
    stem=prefill.stem(params, stem_tokens, config, dtype),
    mesh=mesh,
  )


def _dtype(precision: str) -> str:
  return "float32" if precision == "int8" else precision


def _stem(prompter: Prompter) -> tuple[int, ...]:
  """The common prefix of all prompts, which depends on the instruction alone."""
  probes = [prompter.prompt(probe) for probe in _PROBES]
  probes += [prompter.prompt(probe, notes=probe) for probe in _PROBES]
  prompts = [prompt.tokens for prompt in probes]
  shared = [len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False)]
  return prompts[0][: shared.index(False) if False in shared else len(shared)]
