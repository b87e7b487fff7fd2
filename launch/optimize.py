"""Rewrites a query into a prompt for a text-to-video model.

    python launch/optimize.py --model=runs/mine/vpo "a cat on a skateboard"
    python launch/optimize.py --model=... --file=queries.txt --output=prompts.jsonl

The prompt goes to stdout, everything else to stderr. The guard samples a prompt again
if it is empty, truncated, repetitive, not in English, or contains template markers. If
all attempts fail, a prompt is still printed, stderr says what is wrong with it, and the
exit status is 1.
"""

import sys

from absl import flags

from vpo_jax import errors
from vpo_jax.runtime import app, compilation, console
from vpo_jax.sample import settings

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_CANDIDATES = flags.DEFINE_integer("num_candidates", 1, "Prompts per query.")
# The release's inference settings.
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "0 is greedy decoding.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Nucleus sampling; 1 keeps all tokens.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "0 keeps all tokens.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 512, "Maximum tokens of a prompt.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same prompt.")
_PRECISION = flags.DEFINE_string("precision", "float32", "float32, bfloat16 or int8.")
_INSTRUCTION = flags.DEFINE_string(
  "instruction", "", "Template file; default: the model's."
)
_FILE = flags.DEFINE_string(
  "file", "", "File of queries: text, JSON, JSON Lines or CSV."
)
_OUTPUT = flags.DEFINE_string(
  "output", "", "JSON Lines file for the prompts of --file."
)
_ITERATIONS = flags.DEFINE_integer(
  "iterations", 1, "Rewrites per query; 2 rewrites the first result."
)
_GUARD = flags.DEFINE_bool("guard", True, "Sample unusable prompts again.")
_LANGUAGE = flags.DEFINE_string(
  "language", "en", "Language that the guard requires; '' allows any."
)
_SLOTS = flags.DEFINE_integer("slots", 32, "Candidates decoded at once, with --file.")


def main() -> None:
  args = flags.FLAGS(sys.argv)[1:]
  sampling = settings.Settings(
    num_candidates=_CANDIDATES.value,
    temperature=_TEMPERATURE.value,
    top_p=_TOP_P.value,
    top_k=_TOP_K.value,
    max_new_tokens=_TOKENS.value,
    seed=_SEED.value,
  )
  if bool(_FILE.value) == bool(args) or len(args) > 1:
    raise errors.UserError('give either one query in quotes ("a cat") or --file')
  if bool(_FILE.value) != bool(_OUTPUT.value):
    raise errors.UserError("--file and --output must be given together")
  if _ITERATIONS.value < 1:
    raise errors.UserError(f"--iterations={_ITERATIONS.value}: must be at least 1")
  from vpo_jax.sample import lm

  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  if _FILE.value:
    _file(model, sampling)
  else:
    _query(model, args[0], sampling)


def _file(model, sampling: settings.Settings) -> None:
  from vpo_jax.serve import optimize

  counts = optimize.optimize_file(
    model,
    _FILE.value,
    _OUTPUT.value,
    sampling,
    guard=_GUARD.value,
    language=_LANGUAGE.value,
    iterations=_ITERATIONS.value,
    slots=_SLOTS.value,
  )
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


def _query(model, query: str, sampling: settings.Settings) -> None:
  from vpo_jax.serve import optimize, streaming

  live = sys.stdout.isatty() and sampling.num_candidates == 1
  text = streaming.Text(model)

  def listen(update):
    nonlocal text
    print(
      text.add(update.tokens, last=update.finish_reason is not None),
      end="",
      flush=True,
    )
    if update.finish_reason:  # another attempt may follow
      print()
      text = streaming.Text(model)

  result = optimize.optimize(
    model,
    [query],
    sampling,
    guard=_GUARD.value,
    language=_LANGUAGE.value,
    iterations=_ITERATIONS.value,
    slots=sampling.num_candidates,
    listen=listen if live else None,
  )[0]
  if not live:
    print("\n".join(result.prompts))
  if result.problem:
    raise errors.UserError(
      f"the prompt {result.problem}; tried {optimize.ATTEMPTS} times"
      " (--guard=false accepts any prompt)"
    )


if __name__ == "__main__":
  app.run(main)
