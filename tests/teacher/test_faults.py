"""The stage completes although a fifth of all calls fail, in every way."""

import collections
import random

import faulty
import pytest
import test_build_sft

from vpo_jax import records, stages
from vpo_jax.teacher import build_sft
from vpo_jax.teacher import journal as journal_lib

stage_config = test_build_sft.stage_config

# Faults after which the client has to call again.
FAULTS = (
  faulty.error(429, **{"Retry-After": "0.02"}),
  faulty.error(500),
  faulty.error(503),
  faulty.DROP,
  faulty.CUT,
  faulty.GARBAGE,
  faulty.PAGE,
)


@pytest.mark.parametrize(
  "queries", [100, pytest.param(2000, marks=pytest.mark.slow)], ids=str
)
def test_faults_cost_calls_but_no_rows(served, stage_config, tmp_path, queries):
  rows = [records.Query(records.row_id(i), f"boats number {i}") for i in range(queries)]
  records.write(tmp_path / "curate" / "sft.jsonl", rows)
  script = test_build_sft.teach(flawed=["a boats n"])
  rng = random.Random(0)
  seen: collections.Counter = collections.Counter()

  def answer(number, body):
    draw = rng.random()
    if draw < 0.2:
      seen["faults"] += 1
      return faulty.HANG if draw < 0.005 else rng.choice(FAULTS)
    if draw < 0.22:
      seen["unmarked"] += 1
      return "a reply without its marker"
    if draw < 0.225 and test_build_sft.task(body) == "few_shot":
      seen["refused"] += 1
      return faulty.completion(None, refusal="I will not.")
    return script(number, body)

  stage_config.teacher.parallel = 100
  stage_config.teacher.timeout_s = 15.0  # long enough for a busy machine
  server = served(answer)
  stage_config.teacher.base_url = server.base_url
  counts = stages.run(build_sft.STAGE, stage_config, tmp_path)

  assert counts["examples"] + counts["set_aside"] == queries
  aside = test_build_sft.aside(tmp_path)
  reasons = collections.Counter(row.reason.split(":")[0] for row in aside)
  assert reasons["refused"] == seen["refused"]
  assert len(aside) - reasons["refused"] <= queries // 100
  # Every call is a fault or a reply, and each reply is journaled once.
  with journal_lib.Journal(tmp_path / "build_sft/journal.sqlite") as journal:
    journaled = len(journal)
  assert journaled == counts["calls"]
  assert len(server.requests) - seen["faults"] == journaled
  # No request is answered twice.
  sent = collections.Counter(
    journal_lib.Request("m", tuple(b["messages"]), {}, b["seed"]).key
    for b in server.requests
  )
  assert len(sent) == journaled
