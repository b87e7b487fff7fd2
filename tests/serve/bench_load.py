r"""A crowd of clients on one server: no error, no answer mixed up, how fast.

    python tests/serve/bench_load.py --model=smollm2-135m-instruct --seconds=60

Starts launch/serve.py, has `--clients` ask it for `--seconds`, asks some of it again
alone, stops it with SIGTERM, and draws every answer once more offline. The last line is
JSON; the exit status is 1 where an answer differs or a request failed.
"""

import argparse
import http.client
import itertools
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default="smollm2-135m-instruct")
  parser.add_argument("--clients", type=int, default=32)
  parser.add_argument("--seconds", type=float, default=60)
  parser.add_argument("--slots", type=int, default=32)
  parser.add_argument("--max_tokens", type=int, default=128)
  parser.add_argument("--precision", default="float32")
  parser.add_argument("--alone", type=int, default=24, help="asked again, alone")
  args = parser.parse_args()
  from vpo_jax import queries

  texts = [row.asked for row in queries.load(queries.SHIPPED)[0]]
  process, url = start(args)
  try:
    crowd(url, texts, args, seconds=5)  # warms up
    began = time.monotonic()
    answers, failures = crowd(url, texts, args, args.seconds)
    took = time.monotonic() - began
    say(f"{len(answers)} answers in {took:.1f} s")
    once_more = [
      (row, ask(connect(url), row["text"], row["seed"], args))
      for row in answers[:: max(1, len(answers) // args.alone)]
    ]
    say(f"{len(once_more)} once more, alone")
  finally:
    process.send_signal(signal.SIGTERM)
    status = process.wait(120)
  differ_alone = sum(row["answer"] != alone["answer"] for row, alone in once_more)
  tokens = sum(row["tokens"] for row in answers)
  expected, rate = offline(answers, args)
  differ = sum(
    row["answer"] != text for row, text in zip(answers, expected, strict=True)
  )
  result = {
    "clients": args.clients,
    "seconds": round(took, 1),
    "answers": len(answers),
    "failures": failures,
    "asked_alone": len(once_more),
    "differ_alone": differ_alone,
    "differ_offline": differ,
    "new_tokens_per_second": round(tokens / took, 1),
    "offline_new_tokens_per_second": round(rate, 1),
    "of_offline": round(tokens / took / rate, 3),
    "median_answer_seconds": round(statistics.median(r["took"] for r in answers), 2),
    "slowest_answer_seconds": round(max(r["took"] for r in answers), 2),
    "alone_answer_seconds": round(
      statistics.median(a["took"] for _, a in once_more), 2
    ),
    "exit_status": status,
  }
  print(json.dumps(result))
  return int(bool(failures or differ or differ_alone or status))


def say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def start(args) -> tuple[subprocess.Popen, str]:
  process = subprocess.Popen(
    [
      sys.executable, ROOT / "launch" / "serve.py", f"--model={args.model}", "--port=0",
      f"--slots={args.slots}", f"--precision={args.precision}",
    ],
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"COLUMNS": "200"},
  )  # fmt: skip
  for line in process.stderr:
    say(line.rstrip())
    if found := re.search(r"http://\S+", line):
      threading.Thread(target=process.stderr.read, daemon=True).start()
      return process, found[0]
  raise SystemExit("the server did not start")


def connect(url: str) -> http.client.HTTPConnection:
  where = urllib.parse.urlparse(url)
  return http.client.HTTPConnection(where.hostname, where.port, timeout=300)


def ask(line: http.client.HTTPConnection, text: str, seed: int, args) -> dict:
  began = time.monotonic()
  body = {
    "model": "vpo",
    "messages": [{"role": "user", "content": text}],
    "max_tokens": args.max_tokens,
    "seed": seed,
  }
  headers = {"Content-Type": "application/json"}
  line.request("POST", "/v1/chat/completions", json.dumps(body), headers)
  reply = line.getresponse()
  made = json.loads(reply.read())
  if reply.status != 200:
    raise RuntimeError(f"{reply.status}: {made}")
  return {
    "text": text,
    "seed": seed,
    "answer": made["choices"][0]["message"]["content"],
    "tokens": made["usage"]["completion_tokens"],
    "took": time.monotonic() - began,
  }


def crowd(url, texts, args, seconds) -> tuple[list[dict], int]:
  """Every client asks one thing after another until the time is over."""
  answers, failures, number = [], [], itertools.count()
  end = time.monotonic() + seconds

  def client():
    line = connect(url)
    while time.monotonic() < end:
      seed = next(number)
      try:
        answers.append(ask(line, texts[seed % len(texts)], seed, args))
      except Exception as error:
        failures.append(error)
        say(f"failed: {error!r}")

  threads = [threading.Thread(target=client) for _ in range(args.clients)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return answers, len(failures)


def offline(answers: list[dict], args) -> tuple[list[str], float]:
  """The same requests in one batch without a server: texts, and new tokens a second."""
  from vpo_jax.runtime import compilation
  from vpo_jax.sample import generate, lm, schedule, settings

  compilation.enable_cache()
  policy = lm.load(args.model, precision=args.precision)
  for rows in (answers[:8], answers):  # the first warms up
    began = time.monotonic()
    scheduler = schedule.Scheduler(policy, slots=args.slots)
    jobs = []
    for row in rows:
      wanted = settings.Settings(max_new_tokens=args.max_tokens, seed=row["seed"])
      jobs += scheduler.add(row["seed"], policy.prompt(row["text"]), wanted)
    while scheduler.step():
      pass
    took = time.monotonic() - began
    say(f"{len(rows)} offline in {took:.1f} s")
  tokens = sum(len(job.tokens) for job in jobs)
  return [generate.candidate(policy, job).prompt for job in jobs], tokens / took


if __name__ == "__main__":
  sys.exit(main())
