r"""Serves the optimizer over HTTP, as clients of the OpenAI API expect.

    python launch/serve.py --model=runs/mine/vpo
    curl localhost:8000/optimize -H 'Content-Type: application/json' \
      -d '{"query": "a cat on a skateboard"}'

The page is at /. POST /v1/chat/completions and /v1/completions, GET /v1/models: model
"vpo" takes what the user says as a query, "vpo-chat" is the model as it is. See
docs/serving.md. SIGTERM ends what is begun, then exits with 0.
"""

from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8000, "0 takes a free one.")
_KEY = flags.DEFINE_string(
  "api_key_env", "", "Environment variable with the key that clients must send."
)
_ALIASES = flags.DEFINE_list(
  "aliases", [], "Other names of model vpo, for tools that cannot be told one."
)
_PRECISION = flags.DEFINE_string("precision", "float32", "float32, bfloat16 or int8.")
_INSTRUCTION = flags.DEFINE_string("instruction", "", "A template of your own.")
_LANGUAGE = flags.DEFINE_string(
  "language", "en", "What /optimize's prompts must be in; '' is any."
)
_SLOTS = flags.DEFINE_integer("slots", 32, "Candidates decoded side by side.")
_QUEUE = flags.DEFINE_integer("queue", 128, "Candidates that may wait; more get 429.")
_BODY = flags.DEFINE_integer("max_body_bytes", 256 * 1024, "Longest request.")
_PROMPT = flags.DEFINE_integer("max_prompt_tokens", 1024, "Longest prompt.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 2048, "Longest answer.")
_CANDIDATES = flags.DEFINE_integer("max_candidates", 16, "Answers a request, 'n'.")


def main() -> None:
  for flag in (_SLOTS, _BODY, _PROMPT, _TOKENS, _CANDIDATES):
    if flag.value < 1:
      raise errors.UserError(f"--{flag.name}={flag.value}: wants 1 or more")
  if _QUEUE.value < 0 or _CANDIDATES.value > _SLOTS.value + _QUEUE.value:
    raise errors.UserError("--slots and --queue have no room for --max_candidates")
  try:
    from vpo_jax.serve import limits, server
  except ImportError as error:
    raise errors.UserError(
      f"{error.name} is not installed: pip install -e '.[serve]'"
    ) from error
  from vpo_jax.sample import lm

  key = server.key_of(_KEY.value)
  held = server.bind(_HOST.value, _PORT.value)
  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  server.serve(
    held,
    model,
    slots=_SLOTS.value,
    queue_size=_QUEUE.value,
    limits=limits.Limits(_BODY.value, _PROMPT.value, _TOKENS.value, _CANDIDATES.value),
    guard_language=_LANGUAGE.value,
    aliases=tuple(_ALIASES.value),
    key=key,
  )


if __name__ == "__main__":
  app.run(main)
