"""Every fault is caused on purpose, in real worker processes."""

import http.server
import json
import os
import subprocess
import sys
import threading

import batch
import pytest

from tests import waiting
from torch_bridge import contract, shards
from vpo_jax import errors
from vpo_jax.feedback import bridge, workers


def renders(count):
  """How many videos were rendered in all."""
  return sum(n for prompt, n in count().items() if prompt != "load")


def test_a_killed_worker_costs_at_most_one_video(scripted, tmp_path):
  config, count = scripted
  prompts = [*batch.good(6), "kill-once 1", *batch.good(6, "slow")]
  link, results = batch.run(config, tmp_path, *prompts)
  assert batch.reasons(results) == [""] * len(prompts)
  assert link.restarts == 1
  calls = count()
  assert calls["kill-once 1"] == 2
  assert all(calls[prompt] == 1 for prompt in prompts if "kill" not in prompt)


def test_a_request_that_kills_every_worker_is_set_aside_alone(scripted, tmp_path):
  config, count = scripted
  config.renderer.batch = 4
  _, results = batch.run(config, tmp_path, *batch.good(7), "kill always")
  assert batch.reasons(results)[:7] == [""] * 7
  assert results[7].failure.tries == contract.TRIES
  assert results[7].failure.reason == "the worker crashed"
  assert count()["kill always"] == contract.TRIES


def test_three_failures_set_a_request_aside_with_the_reason(scripted, tmp_path):
  config, count = scripted
  prompts = [*batch.good(4), "raise", "raise-once"]
  link, results = batch.run(config, tmp_path, *prompts)
  reasons = ["", "", "", "", "RuntimeError: scripted failure", ""]
  assert batch.reasons(results) == reasons
  assert count()["raise"] == 3
  assert link.restarts == 0  # a fresh process for the last try is not a crash
  assert count()["load"] >= 2


def test_out_of_memory_halves_the_batch_and_sets_aside_what_never_fits(
  scripted, tmp_path
):
  config, count = scripted
  config.renderer.batch = 4
  config.bridge.workers = 1
  prompts = [*batch.good(3, "big"), "huge", *batch.good(4)]
  _, results = batch.run(config, tmp_path, *prompts)
  reasons = batch.reasons(results)
  assert reasons[3].startswith("out of memory with a batch of one: does not fit")
  assert [r for i, r in enumerate(reasons) if i != 3] == [""] * 7
  assert count()["load"] == 1


@pytest.mark.parametrize("word", ["black", "constant", "nan", "short"])
def test_a_bad_video_fails_before_it_is_scored(scripted, tmp_path, word):
  config, count = scripted
  _, results = batch.run(config, tmp_path, *batch.good(3), f"{word} video")
  assert word in results[3].failure.reason.lower()
  assert results[3].answers is None
  assert results[3].failure.stage == "render"
  assert count()[f"{word} video"] == 1  # another try would give the same video


def test_a_hung_worker_is_killed_and_its_shard_continues(scripted, tmp_path):
  config, count = scripted
  config.bridge.hang_s = 6.0  # longer than a worker takes to start on a busy machine
  link, results = batch.run(config, tmp_path, *batch.good(3), "hang-once")
  assert batch.reasons(results) == [""] * 4
  assert link.restarts == 1
  assert count()["hang-once"] == 2


def test_a_truncated_file_is_found_and_rendered_again(scripted, tmp_path):
  config, count = scripted
  _, first = batch.run(config, tmp_path, *batch.good(4))
  path = tmp_path / "store" / first[1].video.path
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  link, again = batch.run(config, tmp_path, *batch.good(4))
  assert link.rendered == 1
  assert path.read_bytes() == content
  assert [r.answers for r in again] == [r.answers for r in first]
  assert count()["good 1"] == 2
  assert renders(count) == 5


def test_a_file_truncated_before_it_is_scored_is_rendered_again(
  scripted, tmp_path, monkeypatch
):
  config, count = scripted
  refill, truncated = shards.Queue.refill, []

  def truncate_and_refill(self, rows, size):
    if self.root.name == "score" and not truncated:
      path = next((tmp_path / "store" / "videos").rglob("*.mp4"))
      path.write_bytes(path.read_bytes()[:300])
      truncated.append(path)
    refill(self, rows, size)

  monkeypatch.setattr(shards.Queue, "refill", truncate_and_refill)
  _, results = batch.run(config, tmp_path, *batch.good(4))
  assert truncated
  assert batch.reasons(results) == [""] * 4
  assert renders(count) == 5


def test_workers_that_keep_crashing_end_the_run_in_one_line(scripted, tmp_path):
  config, _ = scripted
  config.bridge.workers = 1
  config.bridge.restarts = 1
  line = r"2 workers crashed in a row.*exit code -9.*0-1\.log"
  with pytest.raises(errors.UserError, match=line):
    batch.run(config, tmp_path, "kill 1")


def test_the_run_stops_if_every_request_fails(scripted, tmp_path):
  config, _ = scripted
  with pytest.raises(errors.UserError, match=r"all 3 render requests failed.*black"):
    batch.run(config, tmp_path, *batch.good(3, "black"))


class _Refusing(http.server.BaseHTTPRequestHandler):
  """Lists its models and refuses every other call."""

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
def test_a_server_that_refuses_ends_the_run_at_once(scripted, tmp_path, code, line):
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
      batch.run(config, tmp_path, *batch.good(5))
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
  assert "\n" not in str(caught.value)
  assert server.calls == 1
  assert not list((tmp_path / "score" / "failures").iterdir())


def test_a_worker_exits_when_its_supervisor_is_killed(scripted, tmp_path):
  config, _ = scripted
  link, _ = batch.run(config, tmp_path, "good 1")
  queue = shards.Queue(tmp_path / "render")
  rows = [
    contract.render_request(p, "m", link.settings, 0) for p in batch.good(5000, "slow")
  ]
  queue.refill(rows, 5000)  # of 1,000 seconds
  line = workers.command(
    sys.executable, "worker", f"--job={queue.root}/job.json", "--end_with_stdin"
  )
  worker = subprocess.Popen(line, stdin=subprocess.PIPE)
  waiting.until(lambda: list((queue.root / "taken").rglob("*.jsonl")))
  worker.stdin.close()
  assert worker.wait(waiting.LIMIT_S) == 0


def test_a_bad_row_in_a_shard_is_set_aside_and_the_others_continue(
  scripted, tmp_path, monkeypatch
):
  config, _ = scripted
  refill = shards.Queue.refill

  def refill_and_damage(self, rows, size):
    refill(self, rows, size)
    with next((self.root / "pending").iterdir()).open("a") as file:
      file.write('{"id": 7}\nno json\n')

  monkeypatch.setattr(shards.Queue, "refill", refill_and_damage)
  _, results = batch.run(config, tmp_path, *batch.good(3))
  assert batch.reasons(results) == [""] * 3
  reasons = [
    json.loads(path.read_text())["reason"].split(": ", 1)[1]
    for path in (tmp_path / "render" / "failures").iterdir()
  ]
  assert sorted(reason[:8] for reason in reasons) == ["id is no", "not JSON"]


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


def test_a_full_disk_is_one_line_and_loses_no_result(scripted, tmp_path, small_disk):
  config, count = scripted
  config.bridge.store = str(small_disk)
  prompts = batch.good(60)
  with pytest.raises(errors.UserError, match="the disk is full"):
    batch.run(config, tmp_path, *prompts)
  finished = {path.stem for path in small_disk.glob("videos/*/*.json")}
  assert finished
  assert all(contract.Store(small_disk).find_video(video) for video in finished)
  assert not list(small_disk.rglob(f"{contract.TEMPORARY}*"))
  before = renders(count)
  subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
  _, results = batch.run(config, tmp_path, *prompts)
  assert batch.reasons(results) == [""] * 60
  assert renders(count) - before == 60 - len(finished)


def test_nothing_runs_for_no_requests(scripted, tmp_path):
  config, count = scripted
  link = bridge.Bridge(config, tmp_path, tmp_path / "store")
  assert link.render_and_score([]) == []
  assert count() == {}
