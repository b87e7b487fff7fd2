r"""Predicts memory, time and cost of a step on machines that you do not have.

    python launch/plan.py --config=configs/dpo.py --model_config=llama3-8b \
      --topology=v5p:2x2x2
    python launch/plan.py --config=configs/sft.py --topology=h800:8 --out=plan.json
    python launch/plan.py --config=configs/sft.py --topology=v5e:8 --sweep=8,32,128

Compiles the project's own step from shapes alone: for TPUs with the TPU compiler (extra
`tpu`; no TPU required), for GPUs on the CPU, partitioned over one host device per GPU.
Any config value can be set, for example --config.remat=full. See docs/scaling.md.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from vpo_jax import errors, files
from vpo_jax.plan import chips, fit, models, report, sweep
from vpo_jax.runtime import app, console

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "configs/{sft,dpo,train_groups,sample}.py."
)
_MODEL = flags.DEFINE_string(
  "model_config",
  "llama3-8b",
  "A name in plan/models.py, or a folder with a config.json.",
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "v5p:2x2x2", "v5e:4x8, v5p:2x2x2, v6e:2x4, h800:8, h100:16, h200:8, ..."
)
_STEM = flags.DEFINE_integer(
  "stem_tokens", models.Lengths.stem, "Tokens of the instruction."
)
_QUERY = flags.DEFINE_integer(
  "query_tokens", models.Lengths.query, "Mean tokens of a query."
)
_RESPONSE = flags.DEFINE_integer(
  "response_tokens", models.Lengths.response, "Mean tokens of a response."
)
_CANDIDATES = flags.DEFINE_integer(
  "num_candidates", models.Lengths.candidates, "train_groups: responses of a query."
)
_PRICE = flags.DEFINE_float(
  "price", None, "Dollars per chip and hour; default: the price in plan/chips.py."
)
_SWEEP = flags.DEFINE_list("sweep", [], "Numbers of chips to compare: 8,16,32.")
_SCALING = flags.DEFINE_enum(
  "scaling",
  "strong",
  ["strong", "weak"],
  "sweep: keep the batch (strong) or scale it with the chips (weak).",
)
_TENSOR = flags.DEFINE_list("tensor", ["1", "2"], "sweep: sizes of the tensor axis.")
_OUT = flags.DEFINE_string("out", "", "JSON file; a sweep also writes .md and .png.")


def main() -> None:
  stage = _stage()
  config, lengths = _CONFIG.value, _lengths()
  model = models.read(_MODEL.value)
  machine = chips.parse(_TOPOLOGY.value)
  if _SWEEP.value:
    machines = chips.slices(machine.chip.name, sorted(map(int, _SWEEP.value)))
    tensor = [int(size) for size in _TENSOR.value]
    rows = sweep.run(stage, config, model, lengths, machines, _SCALING.value, tensor)
    print(sweep.table(rows))
    if _OUT.value:
      out = pathlib.Path(_OUT.value)
      files.write_json(out, rows)
      with files.publish(out.with_suffix(".md")) as file:
        file.write(sweep.table(rows) + "\n")
      title = f"{_MODEL.value} {stage} on {machine.chip.name}, {_SCALING.value} scaling"
      sweep.plots(rows, out.with_suffix(".png"), title)
    return
  plan = fit.plan(stage, config, model, lengths, machine)
  print("\n".join(report.lines(stage, plan, _PRICE.value)))
  change = None
  if not plan.fits:
    console.say("searching for a change that fits:")
    result = fit.search(stage, config, model, lengths, machine)
    if result:
      change, plan = result
      print(f"fits with {fit.flags(change)}:")
      print("\n".join(report.lines(stage, plan, _PRICE.value)))
    else:
      print("no change that was tried fits: use more or larger chips")
  if _OUT.value:
    files.write_json(_OUT.value, report.json(stage, plan, _PRICE.value, change))


def _stage() -> str:
  path = next(a.split("=", 1)[1] for a in sys.argv[1:] if "config=" in a[:9])
  stage = pathlib.Path(path).stem
  if stage not in report.RUNS:
    known = ", ".join(report.RUNS)
    raise errors.UserError(f"--config={path}: must be the config of one of {known}")
  return stage


def _lengths() -> models.Lengths:
  return models.Lengths(
    _STEM.value, _QUERY.value, _RESPONSE.value, candidates=_CANDIDATES.value
  )


if __name__ == "__main__":
  if not any(a.lstrip("-").startswith("config=") for a in sys.argv[1:]):
    sys.argv.insert(1, f"--config={app.CONFIGS / 'dpo.py'}")
  app.run(main)
