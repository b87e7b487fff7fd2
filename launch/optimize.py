"""Rewrites a query into a prompt for a text-to-video model.

    python launch/optimize.py --model=runs/mine/vpo "a cat on a skateboard"
    python launch/optimize.py --model=... --file=queries.txt --output=prompts.jsonl

The prompt goes to stdout, all else to stderr. A prompt in which the guard finds a
problem (empty, broken off, repeated, template markers, not in English) is tried again;
where that does not help, it is printed, the problem is named, and the exit status is 1.
"""

import sys

from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation, console
from vpo_jax.sample import settings

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_CANDIDATES = flags.DEFINE_integer("num_candidates", 1, "Prompts a query.")
# The release's inference settings.
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "0 is the most probable prompt.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Nucleus; 1 keeps all tokens.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "0 keeps all tokens.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 512, "Longest prompt, in tokens.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same prompt.")
_PRECISION = flags.DEFINE_string("precision", "float32", "float32, bfloat16 or int8.")
_INSTRUCTION = flags.DEFINE_string("instruction", "", "A template of your own.")
_FILE = flags.DEFINE_string("file", "", "Queries: text, JSON, JSON Lines or CSV.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON Lines of --file's prompts.")
_ITERATIONS = flags.DEFINE_integer("iterations", 1, "2 rewrites the rewrite, ...")
_GUARD = flags.DEFINE_bool("guard", True, "Try again what is no usable prompt.")
_LANGUAGE = flags.DEFINE_string(
  "language", "en", "What the guard wants prompts to be in; '' is any."
)
_SLOTS = flags.DEFINE_integer("slots", 32, "Candidates side by side, with --file.")


def main() -> None:
  args = flags.FLAGS(sys.argv)[1:]
  wanted = settings.Settings(
    num_candidates=_CANDIDATES.value,
    temperature=_TEMPERATURE.value,
    top_p=_TOP_P.value,
    top_k=_TOP_K.value,
    max_new_tokens=_TOKENS.value,
    seed=_SEED.value,
  )
  if bool(_FILE.value) == bool(args) or len(args) > 1:
    raise errors.UserError('give one query, in quotes ("a cat"), or --file')
  if bool(_FILE.value) != bool(_OUTPUT.value):
    raise errors.UserError("--file and --output go together")
  if _ITERATIONS.value < 1:
    raise errors.UserError(f"--iterations={_ITERATIONS.value}: wants 1 or more")
  from vpo_jax.sample import lm

  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  if _FILE.value:
    _file(model, wanted)
  else:
    _one(model, args[0], wanted)


def _file(model, wanted: settings.Settings) -> None:
  from vpo_jax.serve import optimize

  counts = optimize.optimize_file(
    model,
    _FILE.value,
    _OUTPUT.value,
    wanted,
    guard=_GUARD.value,
    language=_LANGUAGE.value,
    iterations=_ITERATIONS.value,
    slots=_SLOTS.value,
  )
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


def _one(model, query: str, wanted: settings.Settings) -> None:
  from vpo_jax.serve import optimize, streaming

  live = sys.stdout.isatty() and wanted.num_candidates == 1
  text = streaming.Text(model)
  shown = []

  def listen(update):
    piece = text.add(update.tokens, last=update.finish_reason is not None)
    shown.append(piece)
    print(piece, end="", flush=True)
    if update.finish_reason:
      print()
      text.__init__(model)

  made = optimize.optimize(
    model,
    [query],
    wanted,
    guard=_GUARD.value,
    language=_LANGUAGE.value,
    iterations=_ITERATIONS.value,
    slots=wanted.num_candidates,
    listen=listen if live else None,
  )[0]
  if not live:
    print("\n".join(made.prompts))
  if made.problem:
    raise errors.UserError(
      f"the prompt {made.problem}; tried {optimize.ATTEMPTS} times"
      " (--guard=false passes it on as it is)"
    )


if __name__ == "__main__":
  app.run(main)
