"""Each fault is made to happen, to real worker processes."""

import http.server
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from torch_bridge import contract, shards
from vpo_jax import errors
from vpo_jax.feedback import bridge, crew


def _asks(*prompts):
  return [bridge.Ask(prompt, 0, "query") for prompt in prompts]


def _good(count, word="good"):
  return [f"{word} {i}" for i in range(count)]


def _reasons(results):
  return [result.failure.reason if result.failure else "" for result in results]


def test_every_ask_is_answered_in_order_and_a_second_run_renders_nothing(
  scripted, tmp_path
):
  config, count = scripted
  asks = _asks(*_good(5), "good 2")  # the last is the third again
  link = bridge.Bridge(config, tmp_path / "a")
  results = link.run(asks)
  assert (link.rendered, link.scored) == (5, 5)
  assert all(len(r.answers.yes) == len(link.questions.texts) for r in results)
  assert results[5] == results[2]
  assert [r.answers.video_id for r in results] == [r.video_id for r in results]
  before = count()
  again = bridge.Bridge(config, tmp_path / "a")
  assert again.run(asks) == results
  assert (again.rendered, again.scored) == (0, 0)
  assert count() == before


def test_another_run_with_the_same_store_renders_nothing(scripted, tmp_path):
  config, count = scripted
  config.bridge.store = str(tmp_path / "store")
  first = bridge.Bridge(config, tmp_path / "a").run(_asks(*_good(3)))
  before = count()
  second = bridge.Bridge(config, tmp_path / "b").run(_asks("good 2", "good 0"))
  assert [r.answers for r in second] == [first[2].answers, first[0].answers]
  assert count() == before


def test_a_worker_that_is_killed_costs_one_video_at_most(scripted, tmp_path):
  config, count = scripted
  prompts = [*_good(6), "kill-once 1", *_good(6, "slow")]
  link = bridge.Bridge(config, tmp_path)
  results = link.run(_asks(*prompts))
  assert _reasons(results) == [""] * len(prompts)
  assert link.restarts == 1
  calls = count()
  assert calls["kill-once 1"] == 2
  assert all(calls[prompt] == 1 for prompt in prompts if "kill" not in prompt)


def test_a_request_that_kills_every_worker_is_set_aside_alone(scripted, tmp_path):
  config, count = scripted
  config.renderer.batch = 4
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(7), "kill always"))
  assert _reasons(results)[:7] == [""] * 7
  assert results[7].failure.tries == contract.TRIES
  assert results[7].failure.reason == "the worker died"
  assert count()["kill always"] == contract.TRIES


def test_three_failures_set_a_request_aside_with_its_reason(scripted, tmp_path):
  config, count = scripted
  prompts = [*_good(4), "raise", "raise-once"]
  link = bridge.Bridge(config, tmp_path)
  results = link.run(_asks(*prompts))
  assert _reasons(results) == ["", "", "", "", "RuntimeError: scripted failure", ""]
  assert count()["raise"] == 3
  assert link.restarts == 0  # a fresh process before the last try is no death
  assert count()["load"] >= 2


def test_when_memory_runs_out_the_batch_is_halved_then_the_one_is_set_aside(
  scripted, tmp_path
):
  config, count = scripted
  config.renderer.batch = 4
  config.bridge.workers = 1
  prompts = [*_good(3, "big"), "huge", *_good(4)]
  results = bridge.Bridge(config, tmp_path).run(_asks(*prompts))
  reasons = _reasons(results)
  assert reasons[3].startswith("out of memory, alone in its batch: does not fit")
  assert [r for i, r in enumerate(reasons) if i != 3] == [""] * 7
  assert count()["load"] == 1


@pytest.mark.parametrize("word", ["black", "constant", "nan", "short"])
def test_what_is_no_video_fails_before_it_is_scored(scripted, tmp_path, word):
  config, count = scripted
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(3), f"{word} video"))
  assert word in results[3].failure.reason.lower()
  assert results[3].answers is None
  assert results[3].failure.stage == "render"
  assert count()[f"{word} video"] == 1  # it would come out the same again


def test_a_worker_that_hangs_is_killed_and_its_shard_goes_on(scripted, tmp_path):
  config, count = scripted
  config.bridge.hang_s = 2.0
  link = bridge.Bridge(config, tmp_path)
  results = link.run(_asks(*_good(3), "hang-once"))
  assert _reasons(results) == [""] * 4
  assert link.restarts == 1
  assert count()["hang-once"] == 2


def test_a_file_cut_short_is_found_and_rendered_again(scripted, tmp_path):
  config, count = scripted
  asks = _asks(*_good(4))
  first = bridge.Bridge(config, tmp_path).run(asks)
  path = tmp_path / "store" / first[1].video.path
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  link = bridge.Bridge(config, tmp_path)
  again = link.run(asks)
  assert link.rendered == 1
  assert path.read_bytes() == whole
  assert [r.answers for r in again] == [r.answers for r in first]
  assert count() == dict.fromkeys(_good(4), 1) | {"good 1": 2, "load": count()["load"]}


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
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(4)))
  assert _reasons(results) == [""] * 4
  assert sum(n for prompt, n in count().items() if prompt != "load") == 5


def test_workers_that_all_die_end_in_one_line_that_names_the_log(scripted, tmp_path):
  config, _ = scripted
  config.bridge.workers = 1
  config.bridge.restarts = 1
  with pytest.raises(errors.UserError, match=r"2 workers died.*exit code -9.*0-1\.log"):
    bridge.Bridge(config, tmp_path).run(_asks("kill 1"))


def test_when_everything_fails_the_stage_stops(scripted, tmp_path):
  config, _ = scripted
  with pytest.raises(errors.UserError, match=r"all 3 render requests failed.*black"):
    bridge.Bridge(config, tmp_path).run(_asks(*_good(3, "black")))


def test_a_model_that_cannot_be_loaded_is_the_workers_own_line(scripted, tmp_path):
  config, _ = scripted
  config.renderer.model = "broken"
  with pytest.raises(errors.UserError, match="broken: not a pipeline to load"):
    bridge.Bridge(config, tmp_path).run(_asks("good 1"))


def test_a_renderer_that_cannot_be_imported_is_found_before_anything_starts(
  scripted, tmp_path
):
  config, count = scripted
  config.scorer.name = "no_such_scorer"
  with pytest.raises(errors.UserError, match="cannot do score: No module named"):
    bridge.Bridge(config, tmp_path).run(_asks("good 1"))
  assert count() == {}


def test_an_environment_without_torch_is_found_before_anything_starts(
  scripted, tmp_path
):
  config, _ = scripted
  config.renderer.name = "diffusers"
  python = tmp_path / "env" / "bin" / "python"
  subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"])
  config.renderer.python = str(python)
  with pytest.raises(errors.UserError) as caught:
    bridge.Bridge(config, tmp_path).run(_asks("good 1"))
  assert "\n" not in str(caught.value)
  assert str(python) in str(caught.value)
  assert "No module named" in str(caught.value)


def test_an_interpreter_that_is_not_there_is_named(scripted, tmp_path):
  config, _ = scripted
  config.renderer.python = "/no/such/python"
  with pytest.raises(errors.UserError, match="/no/such/python: No such file"):
    bridge.Bridge(config, tmp_path).run(_asks("good 1"))


@pytest.mark.parametrize(
  ("named", "visible", "found", "expected"),
  [
    ("", None, 3, {"0", "1", "2"}),
    ("", "5,7", 2, {"5", "7"}),  # what a scheduler gave this process
    ("1,3", "5,7", 2, {"1", "3"}),
    ("MIG-GPU-a/1/0, MIG-GPU-b/1/0", None, 0, {"MIG-GPU-a/1/0", "MIG-GPU-b/1/0"}),
  ],
)
def test_each_device_has_a_worker_of_its_own(
  scripted, tmp_path, monkeypatch, named, visible, found, expected
):
  config, count = scripted
  config.bridge.workers = 0
  config.bridge.devices = named
  if visible:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  check = crew.check
  monkeypatch.setattr(
    crew,
    "check",
    lambda jobs: {job: said | {"devices": found} for job, said in check(jobs).items()},
  )
  notes = []
  monkeypatch.setattr(
    crew.Supervisor,
    "_note",
    lambda self, began, note=crew.Supervisor._note: (
      notes.append(note(self, began)) or notes[-1]
    ),
  )
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(12, "slow")))
  assert _reasons(results) == [""] * 12
  devices = {call.removeprefix("device ") for call in count() if "device " in call}
  assert devices == expected
  assert "GPU h spent, 0.00 left" in notes[-1]


def test_renderer_and_scorer_have_interpreters_of_their_own(scripted, tmp_path):
  config, _ = scripted
  for part in ("renderer", "scorer"):
    python = tmp_path / part
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{part}.log\n')
    with python.open("a") as file:
      file.write(f'exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config[part].python = str(python)
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(3)))
  assert _reasons(results) == [""] * 3
  for part, task in (("renderer", "render"), ("scorer", "score")):
    lines = (tmp_path / f"{part}.log").read_text().splitlines()
    assert "--check" in lines[0]
    assert len(lines) >= 2
    assert all(f"--job={tmp_path}/{task}/job.json" in line for line in lines)


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
      bridge.Bridge(config, tmp_path).run(_asks(*_good(5)))
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
  assert "\n" not in str(caught.value)
  assert server.calls == 1
  assert not list((tmp_path / "score" / "failures").iterdir())


def test_a_scorer_that_cannot_work_is_found_before_anything_is_rendered(
  scripted, tmp_path
):
  config, count = scripted
  config.scorer.name, config.scorer.model = "visionreward", "no/model"
  with pytest.raises(errors.UserError, match="trust_remote_code=True"):
    bridge.Bridge(config, tmp_path).run(_asks("good 1"))
  assert count() == {}


def test_settings_may_come_from_a_file_or_one_by_one(scripted, tmp_path):
  config, _ = scripted
  path = tmp_path / "mine.json"
  path.write_text('{"num_frames": 9, "fps": 5, "call": {"x": [1]}}')
  config.renderer.preset = str(path)
  link = bridge.Bridge(config, tmp_path)
  assert link.settings["call"] == {"x": [1]}
  (result,) = link.run(_asks("good 1"))
  assert result.video.settings["fps"] == result.video.fps == 5
  config.renderer.preset = ""
  config.renderer.settings.num_frames = 9
  with pytest.raises(errors.UserError, match=r"renderer\.settings: fps not set"):
    bridge.Bridge(config, tmp_path)
  config.renderer.name = ""
  with pytest.raises(errors.UserError, match=r"fps, pipeline, dtype.* not set"):
    bridge.Bridge(config, tmp_path)
  config.renderer.preset = str(tmp_path / "none.json")
  with pytest.raises(errors.UserError, match=r"none\.json: not a JSON object"):
    bridge.Bridge(config, tmp_path)


def test_a_worker_ends_when_its_supervisor_is_killed(scripted, tmp_path):
  config, _ = scripted
  link = bridge.Bridge(config, tmp_path)
  link.run(_asks("good 1"))
  job = tmp_path / "render" / "job.json"
  queue = link._queue("render")
  rows = [contract.render_request(p, "m", link.settings, 0) for p in _good(50, "slow")]
  queue.refill(rows, 50)
  command = crew.program(sys.executable, "worker", f"--job={job}", "--end_with_stdin")
  worker = subprocess.Popen(command, stdin=subprocess.PIPE)
  deadline = time.monotonic() + 20
  while not list((queue.root / "taken").rglob("*.jsonl")):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  worker.stdin.close()
  assert worker.wait(timeout=5) == 0


def test_unknown_presets_are_named(scripted, tmp_path):
  config, _ = scripted
  config.renderer.preset = "cogvideox"
  with pytest.raises(errors.UserError, match="no preset 'cogvideox'; there are"):
    bridge.Bridge(config, tmp_path)


def test_the_package_is_found_by_its_folder_alone(tmp_path):
  """Without the environment that holds it, as another interpreter would."""
  package = pathlib.Path(contract.__file__).parent
  line = subprocess.run(
    [sys.executable, "-I", package, "worker", "--help"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert "--job" in line


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
  results = bridge.Bridge(config, tmp_path).run(_asks(*_good(3)))
  assert _reasons(results) == [""] * 3
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
  asks = _asks(*_good(60))
  with pytest.raises(errors.UserError, match="the disk is full"):
    bridge.Bridge(config, tmp_path).run(asks)
  whole = {path.stem for path in small_disk.glob("videos/*/*.json")}
  assert whole
  assert all(contract.Store(small_disk).find_video(video) for video in whole)
  assert not list(small_disk.rglob(f"{contract.ASIDE}*"))
  before = sum(n for prompt, n in count().items() if prompt != "load")
  subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
  results = bridge.Bridge(config, tmp_path).run(asks)
  assert _reasons(results) == [""] * 60
  after = sum(n for prompt, n in count().items() if prompt != "load")
  assert after - before == 60 - len(whole)
