r"""How long one query takes from a cold process, beside llama.cpp.

    npm install --prefix=PACKAGES node-llama-cpp
    python tests/serve/bench_start.py --packages=PACKAGES --checkouts=.,../before

Programs take turns: `launch/optimize.py` of each checkout, and llama.cpp in node with
the same model in float32 and the same prompt. Each draws up to the same number of
tokens. The first turn fills caches and does not count. The last line is JSON: median
and fastest seconds of each program.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from tests.serve import bench_single  # noqa: E402

# Command, standard input, and changes of the environment.
Program = tuple[list[str], str, dict[str, str]]

QUERY = "big lemon ball falls lol"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--checkouts", default=str(ROOT), help="comma-separated folders")
  parser.add_argument("--packages", default="", help="folder with node-llama-cpp")
  parser.add_argument("--turns", type=int, default=5)
  parser.add_argument("--max_new_tokens", type=int, default=64)
  args = parser.parse_args()
  checkouts = [pathlib.Path(one).resolve() for one in args.checkouts.split(",")]
  programs = {str(one): ours(one, args.max_new_tokens) for one in checkouts}
  if args.packages:
    programs["llama.cpp"] = llama_cpp(args.packages, args.max_new_tokens)
  times: dict[str, list[float]] = {name: [] for name in programs}
  for turn in range(args.turns + 1):
    for name, (command, text, environment) in programs.items():
      start = time.perf_counter()
      subprocess.run(
        command,
        input=text,
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
      )
      if turn:
        times[name].append(time.perf_counter() - start)
        print(f"{name}: {times[name][-1]:.2f} s", file=sys.stderr)
  result = {
    name: {"median": round(statistics.median(row), 2), "fastest": round(min(row), 2)}
    for name, row in times.items()
  }
  print(json.dumps({"max_new_tokens": args.max_new_tokens, "seconds": result}))


def ours(checkout: pathlib.Path, count: int) -> Program:
  options = f"--model=smollm2-135m-instruct --max_new_tokens={count} --guard=false"
  script = str(checkout / "launch" / "optimize.py")
  command = [sys.executable, script, *options.split(), QUERY]
  return command, "", {"PYTHONPATH": str(checkout)}


def llama_cpp(packages: str, count: int) -> Program:
  script = pathlib.Path(__file__).with_name("llama_cpp.mjs")
  model = bench_single.embedded("f32")
  row = {"tokens": bench_single.tokens(QUERY), "count": count, "cold": False}
  return ["node", str(script), packages, str(model), "2"], json.dumps(row) + "\n", {}


if __name__ == "__main__":
  main()
