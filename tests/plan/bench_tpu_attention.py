r"""Plans Llama-3-8B's steps on a TPU slice with the attention kernel and without it.

    python tests/plan/bench_tpu_attention.py --topology=v6e:2x4 --rows=1024,2048,4096

Needs the extra `tpu`, no TPU, and minutes a step. Prints a table. The longest example
almost fills a row of the given length, and a micro-batch has 4,096 tokens.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from configs import dpo, sft
from vpo_jax.decoder import attention
from vpo_jax.plan import chips, compile_cache, hlo_cost, models, predict, worker

STAGES = {"sft": (sft, 1), "dpo": (dpo, 2)}


def plan(model: str, stage: str, topology: str, row: int, kernel: bool):
  """The prediction for a step with rows of about `row` tokens."""
  machine = chips.parse(topology)
  module, responses = STAGES[stage]
  config = module.get_config()
  config.update(remat="full", micro_tokens=4096, shapes=1)
  config.mesh.fsdp = machine.devices
  lengths = models.Lengths(response=int(0.6 * row / responses))
  config.max_tokens = 2 * row
  request = compile_cache.Request(
    stage, config, models.read(model), lengths, machine.topology, machine.devices
  )
  with tempfile.TemporaryDirectory() as folder:
    text = pathlib.Path(folder, "step.hlo.gz")
    ran = subprocess.run(
      [sys.executable, __file__, "--worker", *(["--kernel"] if kernel else [])],
      input=json.dumps(request.json() | {"text": str(text)}),
      env=worker.environment(machine.topology, machine.devices),
      capture_output=True,
      text=True,
      check=False,
    )
    if ran.returncode:
      sys.exit(ran.stderr[-3000:])
    compiled = json.loads(ran.stdout.strip().splitlines()[-1])
    if "error" in compiled:
      sys.exit(compiled["error"])
    compiled["cost"] = None
    if "text" in compiled:
      hlo = gzip.decompress(text.read_bytes()).decode()
      found = hlo_cost.analyze(hlo, compiled["trips"])
      sent = [
        {"kind": kind, "devices": size, "per_node": per_node, "bytes": n}
        for (kind, size, per_node), n in sorted(found.collectives.items())
      ]
      compiled["cost"] = {
        "flops": found.flops,
        "bytes": found.bytes,
        "collectives": sent,
      }
  return predict.predict(machine, compiled)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default="llama3-8b")
  parser.add_argument("--topology", default="v6e:2x4")
  parser.add_argument("--rows", default="1024,2048,4096")
  parser.add_argument("--stages", default="sft,dpo")
  parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
  parser.add_argument("--kernel", action="store_true", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    attention.KERNEL_FROM = 0 if args.kernel else 2**30
    print(json.dumps(worker.compile_step(json.load(sys.stdin))))
    return
  print(
    "| stage | tokens of a row | attention | temporaries, GiB | TFLOP | memory, GB"
    " | compute s | memory s | interconnect s |"
  )
  print("| --- " * 9 + "|")
  for stage in args.stages.split(","):
    for row in map(int, args.rows.split(",")):
      for kernel in (False, True):
        found = plan(args.model, stage, args.topology, row, kernel)
        name = "kernel" if kernel else "plain"
        seconds = [
          f"{found.seconds.get(key, 0):.3f}"
          for key in ("compute", "memory", "interconnect")
        ]
        cells = [
          stage.upper(),
          found.about["row_tokens"],
          name,
          f"{found.memory.get('temporaries', 0) / 2**30:.2f}",
          f"{found.flops / 1e12:.1f}",
          f"{found.bytes / 1e9:.0f}",
          *seconds,
        ]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
  main()
