"""Each fault is made to happen, to real worker processes."""

import http.server
import os
import subprocess
import sys
import threading
import time

import asking
import pytest

from torch_bridge import contract, shards
from vpo_jax import errors
from vpo_jax.feedback import bridge, crew


def test_a_worker_that_is_killed_costs_one_video_at_most(scripted, tmp_path):
  config, count = scripted
  prompts = [*asking.good(6), "kill-once 1", *asking.good(6, "slow")]
  link = bridge.Bridge(config, tmp_path)
  results = link.run(asking.asks(*prompts))
  assert asking.reasons(results) == [""] * len(prompts)
  assert link.restarts == 1
  calls = count()
  assert calls["kill-once 1"] == 2
  assert all(calls[prompt] == 1 for prompt in prompts if "kill" not in prompt)


def test_a_request_that_kills_every_worker_is_set_aside_alone(scripted, tmp_path):
  config, count = scripted
  config.renderer.batch = 4
  results = bridge.Bridge(config, tmp_path).run(
    asking.asks(*asking.good(7), "kill always")
  )
  assert asking.reasons(results)[:7] == [""] * 7
  assert results[7].failure.tries == contract.TRIES
  assert results[7].failure.reason == "the worker died"
  assert count()["kill always"] == contract.TRIES


def test_three_failures_set_a_request_aside_with_its_reason(scripted, tmp_path):
  config, count = scripted
  prompts = [*asking.good(4), "raise", "raise-once"]
  link = bridge.Bridge(config, tmp_path)
  results = link.run(asking.asks(*prompts))
  assert asking.reasons(results) == [
    "",
    "",
    "",
    "",
    "RuntimeError: scripted failure",
    "",
  ]
  assert count()["raise"] == 3
  assert link.restarts == 0  # a fresh process before the last try is no death
  assert count()["load"] >= 2


def test_when_memory_runs_out_the_batch_is_halved_then_the_one_is_set_aside(
  scripted, tmp_path
):
  config, count = scripted
  config.renderer.batch = 4
  config.bridge.workers = 1
  prompts = [*asking.good(3, "big"), "huge", *asking.good(4)]
  results = bridge.Bridge(config, tmp_path).run(asking.asks(*prompts))
  reasons = asking.reasons(results)
  assert reasons[3].startswith("out of memory, alone in its batch: does not fit")
  assert [r for i, r in enumerate(reasons) if i != 3] == [""] * 7
  assert count()["load"] == 1


@pytest.mark.parametrize("word", ["black", "constant", "nan", "short"])
def test_what_is_no_video_fails_before_it_is_scored(scripted, tmp_path, word):
  config, count = scripted
  results = bridge.Bridge(config, tmp_path).run(
    asking.asks(*asking.good(3), f"{word} video")
  )
  assert word in results[3].failure.reason.lower()
  assert results[3].answers is None
  assert results[3].failure.stage == "render"
  assert count()[f"{word} video"] == 1  # it would come out the same again


def test_a_worker_that_hangs_is_killed_and_its_shard_goes_on(scripted, tmp_path):
  config, count = scripted
  config.bridge.hang_s = 2.0
  link = bridge.Bridge(config, tmp_path)
  results = link.run(asking.asks(*asking.good(3), "hang-once"))
  assert asking.reasons(results) == [""] * 4
  assert link.restarts == 1
  assert count()["hang-once"] == 2


def test_a_file_cut_short_is_found_and_rendered_again(scripted, tmp_path):
  config, count = scripted
  asks = asking.asks(*asking.good(4))
  first = bridge.Bridge(config, tmp_path).run(asks)
  path = tmp_path / "store" / first[1].video.path
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  link = bridge.Bridge(config, tmp_path)
  again = link.run(asks)
  assert link.rendered == 1
  assert path.read_bytes() == whole
  assert [r.answers for r in again] == [r.answers for r in first]
  assert count() == dict.fromkeys(asking.good(4), 1) | {
    "good 1": 2,
    "load": count()["load"],
  }


def test_a_file_cut_short_before_it_is_scored_is_rendered_again(
  scripted, tmp_path, monkeypatch
):
  config, count = scripted
  score = bridge.Bridge._score

  def cut_then_score(self, requests, plans):
    if not list((tmp_path / "store").glob("answers")):
      path = next((tmp_path / "store" / "videos").rglob("*.mp4"))
      path.write_bytes(path.read_bytes()[:300])
    return score(self, requests, plans)

  monkeypatch.setattr(bridge.Bridge, "_score", cut_then_score)
  results = bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(4)))
  assert asking.reasons(results) == [""] * 4
  assert sum(n for prompt, n in count().items() if prompt != "load") == 5


def test_workers_that_all_die_end_in_one_line_that_names_the_log(scripted, tmp_path):
  config, _ = scripted
  config.bridge.workers = 1
  config.bridge.restarts = 1
  with pytest.raises(errors.UserError, match=r"2 workers died.*exit code -9.*0-1\.log"):
    bridge.Bridge(config, tmp_path).run(asking.asks("kill 1"))


def test_when_everything_fails_the_stage_stops(scripted, tmp_path):
  config, _ = scripted
  with pytest.raises(errors.UserError, match=r"all 3 render requests failed.*black"):
    bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(3, "black")))


class _Refusing(http.server.BaseHTTPRequestHandler):
  """Lists its models, and refuses every other call."""

  def do_GET(self):
    self.send_response(200)
    self.end_headers()
    self.wfile.write(b"{}")

  def do_POST(self):
    self.rfile.read(int(self.headers["Content-Length"]))
    self.server.calls += 1
    self.send_error(self.server.code)

  def log_message(self, *args):
    pass


@pytest.mark.parametrize(("code", "line"), [(401, "refuses the key"), (404, "'judge'")])
def test_a_scorer_that_refuses_ends_the_run_at_once(scripted, tmp_path, code, line):
  config, _ = scripted
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
  server.calls, server.code = 0, code
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  config.bridge.workers = 1
  config.scorer.name, config.scorer.model = "http", "judge"
  config.scorer.options.base_url = f"http://127.0.0.1:{server.server_port}/v1"
  config.scorer.options.parallel = 1
  try:
    with pytest.raises(errors.UserError, match=line) as caught:
      bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(5)))
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
  assert "\n" not in str(caught.value)
  assert server.calls == 1
  assert not list((tmp_path / "score" / "failures").iterdir())


def test_a_worker_ends_when_its_supervisor_is_killed(scripted, tmp_path):
  config, _ = scripted
  link = bridge.Bridge(config, tmp_path)
  link.run(asking.asks("good 1"))
  job = tmp_path / "render" / "job.json"
  queue = link._queue("render")
  rows = [
    contract.render_request(p, "m", link.settings, 0) for p in asking.good(50, "slow")
  ]
  queue.refill(rows, 50)
  command = crew.program(sys.executable, "worker", f"--job={job}", "--end_with_stdin")
  worker = subprocess.Popen(command, stdin=subprocess.PIPE)
  deadline = time.monotonic() + 20
  while not list((queue.root / "taken").rglob("*.jsonl")):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  worker.stdin.close()
  assert worker.wait(timeout=5) == 0


def test_a_bad_row_in_a_shard_is_set_aside_and_the_others_go_on(
  scripted, tmp_path, monkeypatch
):
  config, _ = scripted
  refill = shards.Queue.refill

  def refill_and_damage(self, rows, size):
    refill(self, rows, size)
    with next((self.root / "pending").iterdir()).open("a") as file:
      file.write('{"id": 7}\nno json\n')

  monkeypatch.setattr(shards.Queue, "refill", refill_and_damage)
  results = bridge.Bridge(config, tmp_path).run(asking.asks(*asking.good(3)))
  assert asking.reasons(results) == [""] * 3
  rows = [
    contract.read_row(path, contract.Failure)
    for path in (tmp_path / "render" / "failures").iterdir()
  ]
  assert sorted(row.reason.split(": ", 1)[1][:8] for row in rows) == [
    "id is no",
    "not JSON",
  ]


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 300 kB."""
  folder = tmp_path / "small"
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
  if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
    pytest.skip("only root may mount a small disk")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(scripted, tmp_path, small_disk):
  config, count = scripted
  config.bridge.store = str(small_disk)
  asks = asking.asks(*asking.good(60))
  with pytest.raises(errors.UserError, match="the disk is full"):
    bridge.Bridge(config, tmp_path).run(asks)
  whole = {path.stem for path in small_disk.glob("videos/*/*.json")}
  assert whole
  assert all(contract.Store(small_disk).find_video(video) for video in whole)
  assert not list(small_disk.rglob(f"{contract.ASIDE}*"))
  before = sum(n for prompt, n in count().items() if prompt != "load")
  subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
  results = bridge.Bridge(config, tmp_path).run(asks)
  assert asking.reasons(results) == [""] * 60
  after = sum(n for prompt, n in count().items() if prompt != "load")
  assert after - before == 60 - len(whole)
