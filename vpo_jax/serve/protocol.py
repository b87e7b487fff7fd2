"""Request and response bodies: OpenAI's, with the sampler's additions."""

import secrets
from typing import Annotated, Any, Literal

import pydantic

from vpo_jax.sample import settings
from vpo_jax.serve import api_errors
from vpo_jax.serve import limits as limits_lib

# The release's inference settings, as in launch/optimize.py.
_DEFAULTS = settings.Settings()

# Fields of the OpenAI API that are not supported, with the values that have no effect.
# Unknown fields are ignored, as in the OpenAI API.
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

  def include_usage(self) -> bool:
    return bool(self.stream_options and self.stream_options.include_usage)

  def settings(self, limits: limits_lib.Limits) -> settings.Settings:
    """The sampler's settings; a missing seed is drawn at random.

    Raises:
      ApiError: a value exceeds its limit, or a field is not supported.
    """
    for name, neutral in _NEUTRAL.items():
      value = (self.model_extra or {}).get(name)
      if value is not None and value not in neutral:
        raise api_errors.ApiError(
          400,
          f"{name} is not supported; omit it",
          param=name,
          code="unsupported_parameter",
        )
    if (self.n or 1) > limits.candidates:
      message = f"n={self.n}: at most {limits.candidates} are allowed"
      raise api_errors.ApiError(400, message, param="n")
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
    """The sampler's settings; a missing seed is 0, as in launch/optimize.py.

    Raises:
      ApiError: a value exceeds its limit.
    """
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
    raise api_errors.ApiError(
      400,
      f"{tokens_name}={tokens}: at most {limits.new_tokens} are allowed",
      param=tokens_name,
    )

  def value_of(name: str) -> Any:
    value = getattr(request, name)
    return getattr(_DEFAULTS, name) if value is None else value

  return settings.Settings(
    num_candidates=candidates,
    temperature=value_of("temperature"),
    top_p=value_of("top_p"),
    top_k=value_of("top_k"),
    max_new_tokens=tokens or min(_DEFAULTS.max_new_tokens, limits.new_tokens),
    seed=seed,
  )


class Usage(pydantic.BaseModel):
  prompt_tokens: int
  completion_tokens: int
  total_tokens: int


class AssistantMessage(pydantic.BaseModel):
  role: Literal["assistant"] = "assistant"
  content: str


class Choice(pydantic.BaseModel):
  index: int
  finish_reason: Literal["stop", "length"]
  logprobs: None = None


class ChatChoice(Choice):
  message: AssistantMessage


class CompletionChoice(Choice):
  text: str


class Response(pydantic.BaseModel):
  """`seed`, which OpenAI does not have, reproduces the answer."""

  id: str
  created: int
  model: str
  usage: Usage
  seed: int


class Chat(Response):
  object: Literal["chat.completion"] = "chat.completion"
  choices: list[ChatChoice]


class Completion(Response):
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
  """The prompt for a query.

  Attributes:
    rendered: the exact chat text given to the model.
    problem: why the guard rejects the prompt; only set in a stream.
    attempts: number of prompts sampled.
  """

  query: str
  prompt: str
  rendered: str
  finish_reason: Literal["stop", "length"]
  problem: str | None
  attempts: int
  seed: int
