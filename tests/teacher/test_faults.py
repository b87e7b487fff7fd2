"""A fifth of all calls go wrong in every way, and the stage ends complete."""

import collections
import random

import faulty
import pytest
import test_build_sft

from vpo_jax import records
from vpo_jax.teacher import build_sft
from vpo_jax.teacher import journal as journal_lib

stage_config = test_build_sft.stage_config

# Faults that a client has to ask again for; the server has seen the call.
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
def test_faults_cost_their_calls_and_no_rows(served, stage_config, tmp_path, queries):
  rows = [records.Query(records.row_id(i), f"boats number {i}") for i in range(queries)]
  records.write(tmp_path / "curate" / "sft.jsonl", rows)
  script = test_build_sft.teach(flawed=["a boats n"])
  draw = random.Random(0)
  seen: collections.Counter = collections.Counter()

  def fails(number, body):
    fault = draw.random()
    if fault < 0.2:
      seen["faults"] += 1
      return faulty.HANG if fault < 0.005 else draw.choice(FAULTS)
    if fault < 0.22:
      seen["unmarked"] += 1
      return "a reply without its marker"
    if fault < 0.225 and test_build_sft.task(body) == "few_shot":
      seen["refused"] += 1
      return faulty.completion(None, refusal="I will not.")
    return script(number, body)

  stage_config.teacher.parallel = 100
  stage_config.teacher.timeout_s = 5.0  # long enough for a busy machine
  server = served(fails)
  stage_config.teacher.base_url = server.base_url
  counts = build_sft.run(stage_config, tmp_path)

  assert counts["examples"] + counts["set_aside"] == queries
  aside = test_build_sft.aside(tmp_path)
  reasons = collections.Counter(row.reason.split(":")[0] for row in aside)
  assert reasons["refused"] == seen["refused"]
  assert len(aside) - reasons["refused"] <= queries // 100
  # Every call that the server saw is a fault or a reply, and each reply is kept once.
  with journal_lib.Journal(tmp_path / "build_sft/journal.sqlite") as journal:
    kept = len(journal)
  assert kept == counts["calls"]
  assert len(server.requests) - seen["faults"] == kept
  # No more replies than the questions and their draws of another sample.
  sent = collections.Counter(
    journal_lib.Request("m", tuple(b["messages"]), {}, b["seed"]).key
    for b in server.requests
  )
  assert len(sent) == kept
