"""The bodies of requests and answers: OpenAI's, with what the sampler adds."""

import secrets
from typing import Annotated, Any, Literal

import pydantic

from vpo_jax.sample import settings
from vpo_jax.serve import limits as limits_lib
from vpo_jax.serve import refusals

# The release's inference settings, and launch/optimize.py's.
_DEFAULTS = settings.Settings()

# Fields of the OpenAI API that would change an answer and are not here, with the
# values that ask for nothing. Fields that nobody knows are passed over, as there.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  "best_of": (1,),
  "echo": (False,),
  "frequency_penalty": (0,),
  "functions": ([],),
  "logit_bias": ({},),
  "logprobs": (False, 0),
  "modalities": (["text"],),
  "presence_penalty": (0,),
  "response_format": ({"type": "text"},),
  "suffix": ("",),
  "tools": ([],),
  "top_logprobs": (0,),
}

Count = Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, pydantic.Field(ge=-(2**63), le=2**63 - 1)]
Temperature = Annotated[float, pydantic.Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, pydantic.Field(gt=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, pydantic.Field(ge=0, le=2**31 - 1)]
Stop = Annotated[str, pydantic.Field(min_length=1, max_length=64)]


class _Request(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True, extra="allow")

  temperature: Temperature | None = None
  top_p: TopP | None = None
  top_k: TopK | None = None
  seed: Seed | None = None
  stream: bool | None = None


class StreamOptions(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True)

  include_usage: bool | None = None


class _OpenAI(_Request):
  model: str
  n: Count | None = None
  max_tokens: Count | None = None
  stop: (
    Stop | Annotated[list[Stop], pydantic.Field(min_length=1, max_length=4)] | None
  ) = None
  stream_options: StreamOptions | None = None

  def stops(self) -> tuple[str, ...]:
    return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

  def usage_wanted(self) -> bool:
    return bool(self.stream_options and self.stream_options.include_usage)

  def settings(self, limits: limits_lib.Limits) -> settings.Settings:
    """What is asked of the sampler; without a seed, one is drawn.

    Raises:
      Refusal: more than the limits allow, or a field that is not supported.
    """
    for name, neutral in _NEUTRAL.items():
      value = (self.model_extra or {}).get(name)
      if value is not None and value not in neutral:
        raise refusals.Refusal(
          400,
          f"{name} is not supported; leave it out",
          param=name,
          code="unsupported_parameter",
        )
    if (self.n or 1) > limits.candidates:
      message = f"n={self.n}: at most {limits.candidates} are made"
      raise refusals.Refusal(400, message, param="n")
    seed = secrets.randbelow(2**31) if self.seed is None else self.seed
    return _settings(self, limits, seed, self._tokens(), "max_tokens", self.n or 1)

  def _tokens(self) -> int | None:
    return self.max_tokens


class TextPart(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True)

  type: Literal["text"]
  text: str


class Message(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True)

  role: Literal["system", "developer", "user", "assistant"]
  content: str | list[TextPart]

  def text(self) -> str:
    if isinstance(self.content, str):
      return self.content
    return "".join(part.text for part in self.content)


class ChatRequest(_OpenAI):
  messages: Annotated[list[Message], pydantic.Field(min_length=1)]
  max_completion_tokens: Count | None = None

  def _tokens(self) -> int | None:
    return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_OpenAI):
  prompt: str | Annotated[list[str], pydantic.Field(min_length=1, max_length=1)]

  def text(self) -> str:
    return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class OptimizeRequest(_Request):
  query: str
  max_new_tokens: Count | None = None
  guard: bool | None = None

  def settings(self, limits: limits_lib.Limits) -> settings.Settings:
    """As launch/optimize.py has them: without a seed, the same prompt each time."""
    name = "max_new_tokens"
    return _settings(self, limits, self.seed or 0, self.max_new_tokens, name, 1)


def _settings(
  request: _Request,
  limits: limits_lib.Limits,
  seed: int,
  tokens: int | None,
  tokens_name: str,
  candidates: int,
) -> settings.Settings:
  if (tokens or 0) > limits.new_tokens:
    raise refusals.Refusal(
      400,
      f"{tokens_name}={tokens}: at most {limits.new_tokens} are made",
      param=tokens_name,
    )

  def given(name: str) -> Any:
    value = getattr(request, name)
    return getattr(_DEFAULTS, name) if value is None else value

  return settings.Settings(
    num_candidates=candidates,
    temperature=given("temperature"),
    top_p=given("top_p"),
    top_k=given("top_k"),
    max_new_tokens=tokens or min(_DEFAULTS.max_new_tokens, limits.new_tokens),
    seed=seed,
  )


class Usage(pydantic.BaseModel):
  prompt_tokens: int
  completion_tokens: int
  total_tokens: int


class Spoken(pydantic.BaseModel):
  role: Literal["assistant"] = "assistant"
  content: str


class Choice(pydantic.BaseModel):
  index: int
  finish_reason: Literal["stop", "length"]
  logprobs: None = None


class ChatChoice(Choice):
  message: Spoken


class CompletionChoice(Choice):
  text: str


class Answer(pydantic.BaseModel):
  """`seed` is not OpenAI's: with it the same answer can be had again."""

  id: str
  created: int
  model: str
  usage: Usage
  seed: int


class Chat(Answer):
  object: Literal["chat.completion"] = "chat.completion"
  choices: list[ChatChoice]


class Completion(Answer):
  object: Literal["text_completion"] = "text_completion"
  choices: list[CompletionChoice]


class Model(pydantic.BaseModel):
  id: str
  object: Literal["model"] = "model"
  created: int
  owned_by: str = "vpo-jax"


class Models(pydantic.BaseModel):
  object: Literal["list"] = "list"
  data: list[Model]


class Optimized(pydantic.BaseModel):
  """A query's prompt.

  Attributes:
    rendered: the exact chat text given to the model.
    problem: what the guard found; only ever set where it is turned off or streaming.
    attempts: how often the model was asked.
  """

  query: str
  prompt: str
  rendered: str
  finish_reason: Literal["stop", "length"]
  problem: str | None
  attempts: int
  seed: int
