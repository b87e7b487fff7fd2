"""Distributed runs give the results of one process; their processes exit together."""

import json
import re
import signal
import time

import jax
import numpy as np
import pytest

from configs import sample as sample_config
from tests import waiting
from vpo_jax import records
from vpo_jax.decoder import config as decoder_config
from vpo_jax.decoder import weights
from vpo_jax.runtime import preemption
from vpo_jax.train import checkpoint

WORDS = ["slow", "red", "small", "bright", "old"]


def metrics(workdir, kind, name="loss"):
  lines = (workdir / f"train_{kind}" / "metrics.jsonl").read_text().splitlines()
  return {row["step"]: row[name] for row in map(json.loads, lines) if name in row}


def trained(workdir, kind):
  folder = workdir / f"train_{kind}" / "model"
  return weights.load(folder, decoder_config.read(folder))


def assert_ends_as(ours, theirs, kind):
  for name in ("loss", "eval/loss"):
    mine, one = metrics(ours, kind, name), metrics(theirs, kind, name)
    assert mine.keys() == one.keys()
    np.testing.assert_allclose(list(mine.values()), list(one.values()), rtol=1e-5)
  gaps = jax.tree.map(
    lambda a, b: float(abs(a - b).max()), trained(ours, kind), trained(theirs, kind)
  )
  # Adam divides by the gradient's magnitude, so rounding shows where it is almost zero.
  # A step moves a weight by 1e-3.
  assert max(jax.tree.leaves(gaps)) < 1e-4


@pytest.mark.parametrize(
  ("kind", "count", "mesh"),
  [
    ("sft", 2, {"data": 2}),
    pytest.param("dpo", 2, {"fsdp": 2}, marks=pytest.mark.slow),
    pytest.param("sft", 4, {"fsdp": 4}, marks=pytest.mark.slow),
    pytest.param("dpo", 4, {"data": 2, "tensor": 2}, marks=pytest.mark.slow),
  ],
)
def test_processes_give_the_result_of_one(
  tmp_path, launch, make_config, kind, count, mesh
):
  workdir = tmp_path / "work"
  run = launch(f"train_{kind}.py", make_config(kind, mesh=mesh), workdir, count, 1)
  assert run.wait() == [0] * count, run.output(0)
  one = launch(f"train_{kind}.py", make_config(kind), tmp_path / "one", 1, 1)
  assert one.wait() == [0]
  assert_ends_as(workdir, tmp_path / "one", kind)
  # Each process builds its own part of a micro-batch; no part is built twice.
  micros = list(zip(*(run.rows(index) for index in range(count)), strict=True))
  shares = count // mesh.get("tensor", 1)
  for micro in micros:
    parts = {tuple(part) for part in micro}
    assert len({i for part in parts for i in part}) == sum(map(len, parts))
    assert len(parts) <= shares
  assert sorted(built(run, count, shares)) == sorted(built(one, 1, 1))
  # Only process 0 prints progress.
  assert "train" in run.output(0)
  assert "train" not in run.output(count - 1)


def built(run, count, shares):
  """The examples that a run built, with repetitions, without tensor parallel copies."""
  return [
    i for p in range(0, count, count // shares) for micro in run.rows(p) for i in micro
  ]


def until(condition, run):
  waiting.until(
    condition,
    lambda: all(process.poll() is None for process in run.processes),
    lambda: run.output(0),
  )


def slow_steps(config, steps=40):
  """A run with many steps, to be killed in the middle."""
  config.update(epochs=steps // 3 + 1, eval_every=1000, checkpoint_every=4)
  return config


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "count"), [(1, 2), (0, 4)])
def test_one_is_killed_the_others_exit_and_fewer_continue(
  tmp_path, launch, make_config, killed, count
):
  """Fewer processes read the checkpoint and reach the result of one process."""
  config = slow_steps(make_config("sft", mesh={"fsdp": -1}))
  workdir = tmp_path / "work"
  run = launch("train_sft.py", config, workdir, count, 1)
  until((workdir / "train_sft" / "checkpoints" / "4").exists, run)
  run.processes[killed].send_signal(signal.SIGKILL)
  began = time.monotonic()
  codes = run.wait(60)
  assert time.monotonic() - began < 60
  survivors = [index for index in range(count) if index != killed]
  for index in survivors:
    # Whichever notices it first: a collective operation, or JAX, which aborts.
    assert codes[index] in (1, -signal.SIGABRT)
    line = (
      f"error: process {index}: this process waited for another one, which has died"
    )
    assert run.ends_with(index, line)
    # What it was doing is above: an exception, or the stacks of all threads.
    assert "(most recent call first)" in run.output(index) or (
      "Traceback (most recent call last)" in run.output(index)
    )
  assert not (workdir / "train_sft" / "model").exists()
  rest = launch("train_sft.py", config, workdir, count // 2, 1)
  assert rest.wait() == [0] * (count // 2), rest.output(0)
  one = launch("train_sft.py", config, tmp_path / "one", 1, 1)
  assert one.wait() == [0]
  assert_ends_as(workdir, tmp_path / "one", "sft")


def assert_all_exit(run, hangs, within):
  """The processes report where they are and exit, soon after each other."""
  until(lambda: run.hangs(hangs), run)
  codes = run.wait(120)
  # The cluster's scripts run it again. On a busy machine one process may notice the
  # hang much later than the other, whose end it then notices first.
  assert preemption.EXIT_CODE in codes
  assert set(codes) <= {preemption.EXIT_CODE, 1, -signal.SIGABRT}
  for index, code in enumerate(codes):
    line = rf"error: process {index}: {within} has not ended after"
    if code == preemption.EXIT_CODE:
      assert re.search(line, run.output(index))
    else:
      line = f"error: process {index}: this process waited for"
      assert run.ends_with(index, line), run.output(index)
  assert re.search(r"Thread 0x\w+ .*\n.* in may_hang\n", run.output(hangs))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("hangs", "where", "call", "eval_every", "within"),
  [
    (0, "Feed", 20, 1000, r"training step \d+"),
    (1, "Feed", 20, 1000, r"training step \d+"),
    (1, "_Evaluation", 9, 4, r"micro-batch of the evaluation \d+"),
  ],
)
def test_one_hangs_all_exit(
  tmp_path, launch, make_config, monkeypatch, hangs, where, call, eval_every, within
):
  config = slow_steps(make_config("sft", mesh={"fsdp": 2}))
  config.update(checkpoint_every=1000, eval_every=eval_every, hang_minutes=0.1)
  hang_at(monkeypatch, hangs, where, call)
  run = launch("train_sft.py", config, tmp_path / "work", 2, 1)
  assert_all_exit(run, hangs, within)


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [0, 1])
def test_one_hangs_in_sampling_all_exit(
  tmp_path, launch, tiny_model, monkeypatch, hangs
):
  config = sampling(tmp_path, tiny_model)
  config.update(max_new_tokens=128, hang_minutes=0.1)
  hang_at(monkeypatch, hangs, "stream", 12)
  run = launch("sample.py", config, tmp_path / "work", 2, 1)
  assert_all_exit(run, hangs, r"block of the sampling \d+")


def hang_at(monkeypatch, process, where, call):
  """Makes a process that `launch` starts hang; see SPY in conftest.py."""
  for name, value in {"HANGS": process, "WHERE": where, "CALL": call}.items():
    monkeypatch.setenv(name, str(value))


@pytest.mark.slow
def test_sigterm_to_one_is_seen_by_all_at_one_step(tmp_path, launch, make_config):
  config = slow_steps(make_config("sft", mesh={"data": 2}), steps=400)
  folder = tmp_path / "work" / "train_sft"
  run = launch("train_sft.py", config, tmp_path / "work", 2, 1)
  until((folder / "checkpoints" / "4").exists, run)
  run.processes[1].terminate()
  assert run.wait() == [preemption.EXIT_CODE] * 2, run.output(0)
  saved = int(re.findall(r"SIGTERM: saved step (\d+)", run.output(0))[0])
  with checkpoint.open_in(folder, keep=2) as checkpoints:
    assert checkpoints.latest() == saved


def test_incomplete_flags_are_reported_in_one_line(tmp_path, launch, make_config):
  run = launch(
    "train_sft.py", make_config("sft"), tmp_path, 1, 1, ["--num_processes=2"]
  )
  assert run.wait() == [1]
  assert run.output(0).strip() == (
    "error: --coordinator_address, --num_processes and --process_id go together"
  )


def sampling(folder, model):
  queries = [records.Query(str(n), f"a {word} boat") for n, word in enumerate(WORDS)]
  records.write(folder / "queries.jsonl", queries)
  config = sample_config.get_config()
  config.update(
    queries=str(folder / "queries.jsonl"),
    model=str(model),
    num_candidates=2,
    max_new_tokens=8,
    slots=4,
  )
  return config


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_sampling(tmp_path, launch, tiny_model, count):
  """Each samples its part; together they are the candidates of one process."""
  config = sampling(tmp_path, tiny_model)
  run = launch("sample.py", config, tmp_path / "many", count, 1)
  one = launch("sample.py", config, tmp_path / "one", 1, 1)
  assert run.wait() == [0] * count, run.output(0)
  assert one.wait() == [0], one.output(0)
  many, alone = (
    (tmp_path / name / "sample" / "candidates.jsonl").read_text()
    for name in ("many", "one")
  )
  assert many == alone
  assert not (tmp_path / "many" / "sample" / "parts").exists()
