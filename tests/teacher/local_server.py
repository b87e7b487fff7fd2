"""A server that a stage starts, as `config.teacher.server` names one."""

import contextlib

import faulty
import test_build_sft

running = []  # base URLs


def serve(options, texts):
  if set(options) != {"flawed"}:
    raise ValueError(f"options {sorted(options)}: there is only 'flawed'")
  return _serve(options["flawed"], texts)


@contextlib.contextmanager
def _serve(flawed, texts):
  assert "{query}" in texts["few_shot"]
  with faulty.running(faulty.Server(test_build_sft.teach(flawed))) as server:
    running.append(server.base_url)
    try:
      yield server.base_url
    finally:
      running.remove(server.base_url)
