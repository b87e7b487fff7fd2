"""Measures the client's CPU time per call, including the journal.

    python tests/teacher/bench_client.py [parallel] [calls]

The server runs in another process and answers after 20 ms; the client is pinned to one
core if the system supports it. CPU time, unlike wall time, excludes other processes.
"""

import asyncio
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

import faulty

from configs import teacher
from vpo_jax.teacher import client as client_lib
from vpo_jax.teacher import journal as journal_lib

QUESTION = "A question of the length of a critique. " * 70


def serve(pipe):
  server = faulty.Server(lambda *_: "[[start]]" + "word " * 100 + "[[end]]")
  server.delay = 0.02
  with faulty.running(server):
    pipe.send(server.base_url)
    pipe.recv()


async def ask(config, journal, base_url, calls):
  client = client_lib.Client(config, journal, base_url)
  remaining = iter(range(calls))

  async def work():
    for number in remaining:
      content = f"{QUESTION}{number}"
      await client.reply(({"role": "user", "content": content},), 0)

  await client.reply(({"role": "user", "content": "the first call"},), 0)
  wall, cpu = time.monotonic(), time.process_time()
  await asyncio.gather(*[work() for _ in range(config.parallel)])
  wall, cpu = time.monotonic() - wall, time.process_time() - cpu
  await client.close()
  return wall, cpu


def main(parallel=200, calls=4000):
  pipe, server_pipe = multiprocessing.Pipe()
  server = multiprocessing.get_context("spawn").Process(
    target=serve, args=(server_pipe,)
  )
  server.start()
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  config = teacher.get_config()
  config.parallel, config.api_key_env = parallel, ""
  with (
    tempfile.TemporaryDirectory() as folder,
    journal_lib.Journal(pathlib.Path(folder) / "j.sqlite") as journal,
  ):
    wall, cpu = asyncio.run(ask(config, journal, pipe.recv(), calls))
  pipe.send("stop")
  server.join()
  print(
    f"{calls} calls, {parallel} at a time: {cpu / calls * 1e3:.2f} ms of CPU per call,"
    f" {calls / wall:.0f} calls per second"
  )


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
