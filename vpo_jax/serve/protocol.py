"""Request and response bodies: OpenAI's, with the sampler's additions."""

import secrets
from typing import Annotated, Any, Literal

import pydantic

from vpo_jax.sample import settings
from vpo_jax.serve import api_errors, fields
from vpo_jax.serve import limits as limits_lib

# The release's inference settings, as in launch/optimize.py.
_DEFAULTS = settings.Settings()

# Fields of the OpenAI API that are not supported, with the values that have no effect.
# Unknown fields are ignored.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  "echo": (False,),
  "frequency_penalty": (0,),
  "function_call": ("none", "auto"),
  "functions": ([],),
  "logit_bias": ({},),
  "logprobs": (False, 0),
  "modalities": (["text"],),
  "presence_penalty": (0,),
  "response_format": ({"type": "text"},),
  "suffix": ("",),
  "tool_choice": ("none", "auto"),
  "tools": ([],),
  "top_logprobs": (0,),
  "web_search_options": (),
}


class _Request(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True, extra="allow")

  temperature: fields.Temperature | None = None
  top_p: fields.TopP | None = None
  top_k: fields.TopK | None = None
  seed: fields.Seed | None = None
  stream: bool | None = None


class StreamOptions(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(strict=True)

  include_usage: bool | None = None


class _OpenAI(_Request):
  model: str
  n: fields.Count | None = None
  max_tokens: fields.Count | None = None
  stop: fields.Stop = None
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
    self._check_count(limits)
    seed = secrets.randbelow(2**31) if self.seed is None else self.seed
    return _settings(self, limits, seed, *self._tokens(), self.n or 1)

  def _check_count(self, limits: limits_lib.Limits) -> None:
    if (self.n or 1) > limits.candidates:
      message = f"n={self.n}: at most {limits.candidates} are allowed"
      raise api_errors.ApiError(400, message, param="n")

  def _tokens(self) -> tuple[int | None, str]:
    """The limit on an answer's tokens, and the field that sets it."""
    return self.max_tokens, "max_tokens"


class ChatRequest(_OpenAI):
  """The model decides which messages are read; `messages` checks those."""

  messages: Annotated[list[dict[str, Any]], pydantic.Field(min_length=1)]
  max_completion_tokens: fields.Count | None = None

  def _tokens(self) -> tuple[int | None, str]:
    if self.max_completion_tokens:
      return self.max_completion_tokens, "max_completion_tokens"
    return super()._tokens()


class CompletionRequest(_OpenAI):
  prompt: fields.Prompts
  best_of: fields.Count | None = None

  def prompts(self) -> list[tuple[str, str | list[int]]]:
    """Name of every prompt, and its text or token ids."""
    prompt: Any = self.prompt
    if isinstance(prompt, str) or isinstance(prompt[0], int):
      return [("prompt", prompt)]
    return [(f"prompt[{number}]", value) for number, value in enumerate(prompt)]

  def _check_count(self, limits: limits_lib.Limits) -> None:
    super()._check_count(limits)
    n, prompts = self.n or 1, len(self.prompts())
    if self.best_of not in (None, n):
      message = "best_of is not supported, unless it equals n; omit it"
      raise api_errors.ApiError(
        400, message, param="best_of", code="unsupported_parameter"
      )
    if prompts * n > limits.candidates:
      message = f"{prompts} prompts with n={n}: at most {limits.candidates} answers"
      raise api_errors.ApiError(400, f"{message} are allowed", param="prompt")


class OptimizeRequest(_Request):
  query: str
  max_new_tokens: fields.Count | None = None
  guard: bool | None = None
  best_of: fields.Count | None = None
  keep: fields.Keep = None
  target: str | None = None
  verify: bool | None = None

  def settings(
    self, limits: limits_lib.Limits, *, has_predictor: bool
  ) -> settings.Settings:
    """The sampler's settings; a missing seed is 0, as in launch/optimize.py.

    Args:
      has_predictor: whether the server can choose the best of several prompts.

    Raises:
      ApiError: a value exceeds its limit, or `best_of` is not possible.
    """
    count = self.best_of or 1
    problem = ""
    if count > limits.candidates:
      problem = f"at most {limits.candidates} are allowed"
    elif count > 1 and not has_predictor:
      problem = "the server was started without --predictor; omit it"
    elif count > 1 and self.stream:
      problem = "the best of several prompts cannot be streamed"
    if problem:
      raise api_errors.ApiError(400, f"best_of={count}: {problem}", param="best_of")
    tokens = self.max_new_tokens
    return _settings(self, limits, self.seed or 0, tokens, "max_new_tokens", count)


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

  temperature, top_p = value_of("temperature"), value_of("top_p")
  top_k = max(0, value_of("top_k"))
  # Below the sampler's smallest values only the most probable token is left.
  if temperature < settings.MIN_TEMPERATURE:
    temperature = 0
  if top_p < settings.MIN_TOP_P:
    top_p, top_k = 1, 1
  return settings.Settings(
    num_candidates=candidates,
    temperature=temperature,
    top_p=top_p,
    top_k=top_k,
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
    attempts: how often a prompt, or `best_of` prompts, were sampled.
    spans: the query's protected spans and the words of `keep`: "kept" if the model
      wrote it, "repaired" if it was inserted, "lost" if the prompt has a problem.
    target: the video model that the prompt is for.
    tokens: the prompt's, of the target's text encoder.
    budget: "kept" if the target reads all of the model's prompt, "shortened" if the
      prompt was cut so that it does, "exceeded" if it does not.
    negative_prompt: what the query's negative flags exclude, if the target takes it.
    verified: the judge's verdict with `verify`: "aligned", or "unknown" if it gave
      none; if there is a problem also "imprecise", "unsafe" or "refusal".
  """

  query: str
  prompt: str
  rendered: str
  finish_reason: Literal["stop", "length"]
  problem: str | None
  attempts: int
  seed: int
  spans: dict[str, str]
  target: str | None = None
  tokens: int | None = None
  budget: Literal["kept", "shortened", "exceeded"] | None = None
  negative_prompt: str | None = None
  verified: str | None = None
