r"""Load test: many clients on one server; checks all answers and reports the speed.

    python tests/serve/bench_load.py --model=smollm2-135m-instruct --seconds=60

Starts launch/serve.py and sends requests from `--clients` threads for `--seconds`,
repeats some of them one at a time, stops the server with SIGTERM, and samples every
answer again offline. The last line is JSON; the exit status is 1 if answers differ or a
request failed.
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
  parser.add_argument("--alone", type=int, default=24, help="requests to repeat")
  args = parser.parse_args()
  from vpo_jax import queries

  texts = [row.text for row in queries.load(queries.SHIPPED)[0]]
  process, url = start(args)
  try:
    load(url, texts, args, seconds=5)  # warms up
    start_time = time.monotonic()
    answers, failures = load(url, texts, args, args.seconds)
    seconds = time.monotonic() - start_time
    say(f"{len(answers)} answers in {seconds:.1f} s")
    repeated = [
      (row, post(connect(url), row["text"], row["seed"], args))
      for row in answers[:: max(1, len(answers) // args.alone)]
    ]
    say(f"{len(repeated)} repeated alone")
  finally:
    process.send_signal(signal.SIGTERM)
    status = process.wait(120)
  differ_alone = sum(row["answer"] != alone["answer"] for row, alone in repeated)
  tokens = sum(row["tokens"] for row in answers)
  expected, rate = offline(answers, args)
  differ = sum(
    row["answer"] != text for row, text in zip(answers, expected, strict=True)
  )
  result = {
    "clients": args.clients,
    "seconds": round(seconds, 1),
    "answers": len(answers),
    "failures": failures,
    "asked_alone": len(repeated),
    "differ_alone": differ_alone,
    "differ_offline": differ,
    "new_tokens_per_second": round(tokens / seconds, 1),
    "offline_new_tokens_per_second": round(rate, 1),
    "of_offline": round(tokens / seconds / rate, 3),
    "median_answer_seconds": round(statistics.median(r["seconds"] for r in answers), 2),
    "slowest_answer_seconds": round(max(r["seconds"] for r in answers), 2),
    "alone_answer_seconds": round(
      statistics.median(a["seconds"] for _, a in repeated), 2
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


def post(connection: http.client.HTTPConnection, text: str, seed: int, args) -> dict:
  start_time = time.monotonic()
  body = {
    "model": "vpo",
    "messages": [{"role": "user", "content": text}],
    "max_tokens": args.max_tokens,
    "seed": seed,
  }
  headers = {"Content-Type": "application/json"}
  connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
  reply = connection.getresponse()
  result = json.loads(reply.read())
  if reply.status != 200:
    raise RuntimeError(f"{reply.status}: {result}")
  return {
    "text": text,
    "seed": seed,
    "answer": result["choices"][0]["message"]["content"],
    "tokens": result["usage"]["completion_tokens"],
    "seconds": time.monotonic() - start_time,
  }


def load(url, texts, args, seconds) -> tuple[list[dict], int]:
  """Each client sends one request after another for `seconds`.

  Returns: the answers, and the number of failures.
  """
  answers, failures, number = [], [], itertools.count()
  end = time.monotonic() + seconds

  def client():
    connection = connect(url)
    while time.monotonic() < end:
      seed = next(number)
      try:
        answers.append(post(connection, texts[seed % len(texts)], seed, args))
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
  """The same requests without a server: their texts, and new tokens per second."""
  from vpo_jax.runtime import compilation
  from vpo_jax.sample import generate, lm, schedule, settings

  compilation.enable_cache()
  policy = lm.load(args.model, precision=args.precision)
  for rows in (answers[:8], answers):  # the first warms up
    start_time = time.monotonic()
    scheduler = schedule.Scheduler(policy, slots=args.slots)
    jobs = []
    for row in rows:
      sampling = settings.Settings(max_new_tokens=args.max_tokens, seed=row["seed"])
      jobs += scheduler.add(row["seed"], policy.prompt(row["text"]), sampling)
    while scheduler.step():
      pass
    seconds = time.monotonic() - start_time
    say(f"{len(rows)} offline in {seconds:.1f} s")
  tokens = sum(len(job.tokens) for job in jobs)
  return [generate.candidate(policy, job).prompt for job in jobs], tokens / seconds


if __name__ == "__main__":
  sys.exit(main())
