r"""Benchmarks a stage, optionally against another program; prints JSON.

    python launch/bench.py --stage=sample --model=smollm2-135m-instruct \
      --batch=8 --num_candidates=4 --max_new_tokens=64 --ignore_eos --steps=3 \
      --against=transformers-float32,transformers-bfloat16
    python launch/bench.py --stage=dpo --queries=queries.json --batch=8 --steps=5 \
      --against=trl --trl_micro_batches=1,2
    python launch/bench.py --stage=sft --lora_rank=16 --batch=8 --against=trl
    python launch/bench.py --stage=groups --num_candidates=4 --batch=4  # beside DPO
    python launch/bench.py --stage=sft --devices=1,2,4,8 --batch=2
    python launch/bench.py --stage=head --model=llama3-8b --rows=1,8   # compiles only

`launch/bench_gpu.sh` runs the measurements of one GPU.
"""

import json
import os
from typing import Any

from absl import flags

from vpo_jax import errors
from vpo_jax.decoder import source
from vpo_jax.runtime import allocator, app, compilation

_MODEL = flags.DEFINE_string(
  "model", source.SMOLLM2, "Model directory, hub id, or a name in bench/shapes.py."
)
_STEPS = flags.DEFINE_integer(
  "steps",
  3,
  "Timed steps, each preceded by an untimed one (--devices: only the first).",
)
_AGAINST = flags.DEFINE_string(
  "against", "", "Programs to compare with: trl; transformers-float32, ..."
)
_PRECISION = flags.DEFINE_string("precision", "float32", "float32 or bfloat16.")
_MICRO = flags.DEFINE_integer(
  "micro_tokens", 4096, "sft, dpo, groups: see their configs."
)
_SHAPES = flags.DEFINE_integer("shapes", 4, "sft, dpo, groups: see their configs.")
_REMAT = flags.DEFINE_string("remat", "cheap", "sft, dpo, groups: see their configs.")
_LORA_RANK = flags.DEFINE_integer(
  "lora_rank", 0, "sft, dpo: rank of LoRA, in both programs; 0 trains all weights."
)
_TRL_ROWS = flags.DEFINE_list(
  "trl_micro_batches", ["1"], "sft, dpo: TRL's rows per device, each compared."
)
_TRL_PRECISIONS = flags.DEFINE_list(
  "trl_precisions", ["float32"], "sft, dpo: TRL's precisions, each compared."
)
_QUERIES = flags.DEFINE_string("queries", "", "Query file; '' uses the embedded set.")
_BATCH = flags.DEFINE_integer("batch", 8, "Queries (examples, pairs) per step.")
_DEVICES = flags.DEFINE_list(
  "devices", [], "sft, dpo: numbers of devices to measure; --batch is per device."
)
_ROWS = flags.DEFINE_list("rows", ["1", "2", "4", "8"], "head: rows of 2,048 tokens.")
_CANDIDATES = flags.DEFINE_integer(
  "num_candidates", 4, "sample, groups: candidates per query."
)
_TOKENS = flags.DEFINE_integer("max_new_tokens", 64, "sample: maximum length.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.9, "sample: 0 is greedy.")
_TOP_P = flags.DEFINE_float("top_p", 0.9, "sample: nucleus sampling.")
_IGNORE_EOS = flags.DEFINE_bool(
  "ignore_eos", False, "sample: continue past the end token."
)


def sample() -> dict:
  from vpo_jax.bench import sample as bench
  from vpo_jax.sample import settings

  sampling = settings.Settings(
    num_candidates=_CANDIDATES.value,
    temperature=_TEMPERATURE.value,
    top_p=_TOP_P.value,
    max_new_tokens=_TOKENS.value,
    ignore_eos=_IGNORE_EOS.value,
  )
  compilation.enable_cache()
  share_gpu()
  return bench.bench(
    _MODEL.value,
    read_queries(),
    sampling,
    batch=_BATCH.value,
    steps=_STEPS.value,
    precision=_PRECISION.value,
    against=_AGAINST.value.split(",") if _AGAINST.value else (),
  )


def train() -> dict:
  allocator.use_huge_pages()  # as launch/train_sft.py and train_dpo.py do
  share_gpu()
  from vpo_jax.bench import train as bench
  from vpo_jax.bench import trl

  if _AGAINST.value not in ("", "trl"):
    raise errors.UserError(
      f"--against={_AGAINST.value}: training can only be compared with trl"
    )
  if _DEVICES.value:
    if _LORA_RANK.value:
      raise errors.UserError("--lora_rank: cannot be combined with --devices")
    return on_devices()
  stage: Any = _STAGE.value
  precisions: Any = _TRL_PRECISIONS.value
  settings = [
    trl.Setting(int(rows), precision)
    for precision in precisions
    for rows in _TRL_ROWS.value
    if _AGAINST.value
  ]
  return bench.bench(
    stage,
    _MODEL.value,
    read_queries(),
    shapes=_SHAPES.value,
    lora_rank=_LORA_RANK.value,
    against=settings,
    **_training(),
  )


def _training() -> dict:
  """What all benchmarks of training are given."""
  return {
    "batch": _BATCH.value,
    "steps": _STEPS.value,
    "precision": _PRECISION.value,
    "micro_tokens": _MICRO.value,
    "remat": _REMAT.value,
  }


def groups() -> dict:
  allocator.use_huge_pages()
  from vpo_jax.bench import train as bench

  return bench.bench_groups(
    _MODEL.value,
    read_queries(),
    candidates=_CANDIDATES.value,
    shapes=_SHAPES.value,
    **_training(),
  )


def on_devices() -> dict:
  from vpo_jax.plan import devices

  stage: Any = _STAGE.value
  counts = [int(count) for count in _DEVICES.value]
  devices.set_host_devices(max(counts))
  return devices.bench(
    stage,
    _MODEL.value,
    read_queries(),
    counts,
    **_training(),
  )


def head() -> dict:
  from vpo_jax.bench import head as bench
  from vpo_jax.plan import models

  settings = {"precision": _PRECISION.value, "remat": _REMAT.value}
  rows = [int(count) for count in _ROWS.value]
  model = models.read(_MODEL.value)
  sizes = bench.measure(model, rows, 2048, **settings)
  return {"stage": "head", "model": _MODEL.value, **settings, "bytes": sizes}


def share_gpu() -> None:
  """Leaves memory of the GPU to the other program; call it before JAX initializes."""
  if _AGAINST.value:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def read_queries() -> list[str]:
  from vpo_jax import queries

  rows = queries.read(_QUERIES.value or queries.SHIPPED)
  return [row.text for row in rows if not row.problem]


STAGES = {
  "sample": sample,
  "sft": train,
  "dpo": train,
  "groups": groups,
  "head": head,
}
_STAGE = flags.DEFINE_enum(
  "stage", None, list(STAGES), "What to measure.", required=True
)


def main() -> None:
  print(json.dumps(STAGES[_STAGE.value]()))


if __name__ == "__main__":
  app.run(main)
