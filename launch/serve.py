r"""Serves the optimizer over HTTP, with an OpenAI-compatible API.

    python launch/serve.py --model=runs/mine/vpo
    curl localhost:8000/optimize -H 'Content-Type: application/json' \
      -d '{"query": "a cat on a skateboard"}'

A web page is at /. The OpenAI endpoints are /v1/chat/completions, /v1/completions and
/v1/models: model "vpo" treats the last user message as a query, "vpo-chat" is the plain
chat model. With --targets=cogvideox-5b, 'target' of /optimize and the model
"vpo-cogvideox-5b" write for that video model. On SIGTERM the server finishes running
requests and exits with 0. See docs/serving.md.
"""

from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0 picks a free one.")
_KEY = flags.DEFINE_string(
  "api_key_env", "", "Environment variable that holds the API key; default: no key."
)
_ALIASES = flags.DEFINE_list(
  "aliases", [], "Other names for model vpo, for tools with a fixed model name."
)
_PRECISION = flags.DEFINE_string("precision", "float32", "float32, bfloat16 or int8.")
_INSTRUCTION = flags.DEFINE_string(
  "instruction", "", "Template file; default: the model's."
)
_LANGUAGE = flags.DEFINE_string(
  "language",
  "en",
  "Language required of /optimize's prompts without a target; '' allows any.",
)
_PREDICTOR = flags.DEFINE_string(
  "predictor",
  "",
  "Folder of launch/train_predictor.py, trained with this model; allows 'best_of'.",
)
_TARGETS = flags.DEFINE_list(
  "targets",
  [],
  "Video models that a request may name: names of profiles, or JSON files.",
)
_JUDGE = flags.DEFINE_string(
  "judge", "", "LLM that checks prompts on request ('verify' of /optimize): gpt-4o."
)
_JUDGE_URL = flags.DEFINE_string(
  "judge_url", "", "Its server, with OpenAI's API; '' is OpenAI's."
)
_JUDGE_KEY = flags.DEFINE_string(
  "judge_key_env", "OPENAI_API_KEY", "Variable that holds its key; '' for none."
)
_SLOTS = flags.DEFINE_integer("slots", 32, "Candidates decoded at once.")
_QUEUE = flags.DEFINE_integer("queue", 128, "Candidates that may wait; more get 429.")
_BODY = flags.DEFINE_integer("max_body_bytes", 256 * 1024, "Largest request body.")
_PROMPT = flags.DEFINE_integer("max_prompt_tokens", 1024, "Longest prompt accepted.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 2048, "Longest answer allowed.")
_CANDIDATES = flags.DEFINE_integer(
  "max_candidates", 16, "Most answers of a request: 'n' times prompts, or 'best_of'."
)


def main() -> None:
  for flag in (_SLOTS, _BODY, _PROMPT, _TOKENS, _CANDIDATES):
    if flag.value < 1:
      raise errors.UserError(f"--{flag.name}={flag.value}: must be at least 1")
  if _QUEUE.value < 0 or _CANDIDATES.value > _SLOTS.value + _QUEUE.value:
    raise errors.UserError("--slots plus --queue must be at least --max_candidates")
  try:
    from vpo_jax.serve import judge, limits, server
  except ImportError as error:
    raise errors.UserError(
      f"{error.name} is not installed: pip install -e '.[serve]'"
    ) from error
  from vpo_jax.predict import predictor as predictors
  from vpo_jax.promises import targets
  from vpo_jax.sample import lm

  asked = None
  if _JUDGE.value:
    asked = judge.of_model(_JUDGE.value, _JUDGE_URL.value, _JUDGE_KEY.value)
  read = tuple(targets.load(name) for name in _TARGETS.value)
  predictor = predictors.load(_PREDICTOR.value) if _PREDICTOR.value else None
  key = server.read_api_key(_KEY.value)
  sock = server.bind(_HOST.value, _PORT.value)
  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  if predictor:
    predictor.check(model)
  server.serve(
    sock,
    model,
    slots=_SLOTS.value,
    queue_size=_QUEUE.value,
    limits=limits.Limits(_BODY.value, _PROMPT.value, _TOKENS.value, _CANDIDATES.value),
    guard_language=_LANGUAGE.value,
    aliases=tuple(_ALIASES.value),
    key=key,
    predictor=predictor,
    targets=read,
    judge=asked,
  )


if __name__ == "__main__":
  app.run(main)
