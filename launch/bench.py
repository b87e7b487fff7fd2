r"""Measures a stage, alone or in turns with another program; JSON on the last line.

    python launch/bench.py --stage=sample --model=smollm2-135m-instruct \
      --batch=8 --num_candidates=4 --max_new_tokens=64 --ignore_eos --steps=3 \
      --against=transformers
"""

import json

from absl import flags

from vpo_jax import app
from vpo_jax.llama import source

_MODEL = flags.DEFINE_string(
  "model", source.SMOLLM2, "Directory, hub id or the default."
)
_STEPS = flags.DEFINE_integer("steps", 3, "Timed steps; one more warms up.")
_AGAINST = flags.DEFINE_string("against", "", "Another program, in turns with ours.")
_PRECISION = flags.DEFINE_string("precision", "float32", "float32 or bfloat16.")
_QUERIES = flags.DEFINE_string("queries", "", "Query file; '' is the embedded set.")
_BATCH = flags.DEFINE_integer("batch", 8, "Queries a step.")
_CANDIDATES = flags.DEFINE_integer("num_candidates", 4, "sample: candidates a query.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 64, "sample: longest candidate.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.9, "sample: 0 is greedy.")
_TOP_P = flags.DEFINE_float("top_p", 0.9, "sample: nucleus.")
_IGNORE_EOS = flags.DEFINE_bool("ignore_eos", False, "sample: write on past the end.")


def sample() -> dict:
  from vpo_jax import queries as queries_lib
  from vpo_jax.bench import sample as bench
  from vpo_jax.sample import settings

  wanted = settings.Settings(
    num_candidates=_CANDIDATES.value,
    temperature=_TEMPERATURE.value,
    top_p=_TOP_P.value,
    max_new_tokens=_TOKENS.value,
    ignore_eos=_IGNORE_EOS.value,
  )
  rows = queries_lib.read(_QUERIES.value or queries_lib.SHIPPED)
  queries = [row.text for row in rows if not row.problem]
  return bench.bench(
    _MODEL.value,
    queries,
    wanted,
    batch=_BATCH.value,
    steps=_STEPS.value,
    precision=_PRECISION.value,
    against=_AGAINST.value,
  )


STAGES = {"sample": sample}
_STAGE = flags.DEFINE_enum(
  "stage", None, list(STAGES), "What is measured.", required=True
)


def main() -> None:
  source.keep_compiled()
  print(json.dumps(STAGES[_STAGE.value]()))


if __name__ == "__main__":
  app.run(main)
