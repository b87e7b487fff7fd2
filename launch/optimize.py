r"""Rewrites a query into a prompt for a text-to-video model.

    python launch/optimize.py --model=runs/mine/vpo "a cat on a skateboard"
    python launch/optimize.py --model=... --file=queries.txt --output=prompts.jsonl
    python launch/optimize.py --model=... --best_of=8 \
      --predictor=runs/mine/train_predictor "a cat on a skateboard"

The prompt goes to stdout, everything else to stderr. The guard samples a prompt again
if it is empty, truncated, repetitive, not in English, or contains template markers, and
also if it lacks text that the query has in quotes, a <tag>, or a word of --keep; what
all attempts lack is inserted. If all attempts fail otherwise, a prompt is printed all
the same, stderr says what is wrong with it, and the exit status is 1. With
--target=cogvideox-5b a prompt must also fit what that video model's text encoder reads
(configs/targets, or a JSON file of your own); if all attempts are longer, one is
shortened. With --judge an LLM also checks that all that was asked for is in the prompt.
With --best_of the prompt is the one of which the predictor expects the highest video
reward (docs/beyond.md).
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
_BEST_OF = flags.DEFINE_integer(
  "best_of", 1, "Prompts to choose one from; needs --predictor."
)
_PREDICTOR = flags.DEFINE_string(
  "predictor", "", "Folder of launch/train_predictor.py, trained with this model."
)
_SHOW_ALL = flags.DEFINE_bool(
  "show_all", False, "With --best_of: all prompts and predicted gains, to stderr."
)
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
  "output", "", "File for the prompts of --file, which ends with .jsonl, .csv or .txt."
)
_ITERATIONS = flags.DEFINE_integer(
  "iterations", 1, "Rewrites per query; 2 rewrites the first result."
)
_GUARD = flags.DEFINE_bool("guard", True, "Sample unusable prompts again.")
_KEEP = flags.DEFINE_list(
  "keep",
  [],
  "Words that a prompt must contain unchanged, as it must text in quotes and <tags>.",
)
_TARGET = flags.DEFINE_string(
  "target", "", "Video model that the prompt is for: a profile's name or JSON file."
)
_JUDGE = flags.DEFINE_string(
  "judge", "", "LLM that checks that a prompt has all that was asked for: gpt-4o."
)
_JUDGE_URL = flags.DEFINE_string(
  "judge_url", "", "Its server, with OpenAI's API; '' is OpenAI's."
)
_JUDGE_KEY = flags.DEFINE_string(
  "judge_key_env", "OPENAI_API_KEY", "Variable that holds its key; '' for none."
)
_LANGUAGE = flags.DEFINE_string(
  "language", "en", "Language that the guard requires without a target; '' allows any."
)
_SLOTS = flags.DEFINE_integer("slots", 32, "Candidates decoded at once, with --file.")


def main() -> None:
  args = flags.FLAGS(sys.argv)[1:]
  sampling = settings.Settings(
    num_candidates=max(_CANDIDATES.value, _BEST_OF.value),
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
  if _BEST_OF.value < 1 or (_BEST_OF.value > 1) != bool(_PREDICTOR.value):
    raise errors.UserError("--best_of (2 or more) and --predictor need each other")
  if _BEST_OF.value > 1 and _CANDIDATES.value > 1:
    raise errors.UserError("give either --best_of or --num_candidates")
  from vpo_jax.predict import predictor as predictors
  from vpo_jax.promises import targets
  from vpo_jax.sample import lm

  judge = _judge()
  target = targets.load(_TARGET.value) if _TARGET.value else None
  predictor = predictors.load(_PREDICTOR.value) if _PREDICTOR.value else None
  compilation.enable_cache()
  model = lm.load(
    _MODEL.value, precision=_PRECISION.value, instruction=_INSTRUCTION.value
  )
  if predictor:
    predictor.check(model)
  if target and target.profile.notes and not model.reads_notes:
    console.say(
      f"the model's instruction has no {{notes}}, so {target.name}'s are unused"
    )
  if _FILE.value:
    _file(model, sampling, predictor, target, judge)
  else:
    _query(model, args[0], sampling, predictor, target, judge)
  app.end()


def _judge():
  """The judge, if one is asked for."""
  from vpo_jax.serve import judge

  if not _JUDGE.value:
    return None
  return judge.of_model(_JUDGE.value, _JUDGE_URL.value, _JUDGE_KEY.value)


def _file(model, sampling: settings.Settings, predictor, target, judge) -> None:
  from vpo_jax.serve import optimize_file

  counts = optimize_file.optimize_file(
    model,
    _FILE.value,
    _OUTPUT.value,
    sampling,
    guard=_GUARD.value,
    language=_LANGUAGE.value,
    iterations=_ITERATIONS.value,
    slots=_SLOTS.value,
    predictor=predictor,
    keep=_KEEP.value,
    target=target,
    judge=judge,
    judge_name=_JUDGE.value,
  )
  console.say(" ".join(f"{name}={value}" for name, value in counts.items()))


def _query(
  model, query: str, sampling: settings.Settings, predictor, target, judge
) -> None:
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
    predictor=predictor,
    keep=_KEEP.value,
    target=target,
    judge=judge,
  )[0]
  repaired = [text for text, how in result.spans.items() if how == "repaired"]
  if repaired:
    console.say(f"inserted what the model left out: {', '.join(repaired)}")
  if target:
    limit = target.profile.tokens
    what = f"{result.tokens} of at most {limit} tokens of {target.name}"
    console.say(f"{'shortened to ' if result.budget == 'shortened' else ''}{what}")
  if result.verified:
    console.say(f"the judge's verdict: {result.verified}")
  if result.negative_prompt:
    console.say(f"negative prompt: {result.negative_prompt}")
  if predictor:
    if _SHOW_ALL.value:
      for gain, prompt in zip(result.gains, result.prompts, strict=True):
        console.say(f"{'unknown' if gain is None else format(gain, '+.2f')}  {prompt}")
    print(result.prompt)
  elif not live:
    print("\n".join(result.prompts))
  elif repaired or result.budget == "shortened":
    print(result.prompt)
  if result.problem:
    raise errors.UserError(
      f"the prompt {result.problem}; tried {optimize.ATTEMPTS} times"
      " (--guard=false accepts any prompt)"
    )


if __name__ == "__main__":
  app.run(main)
