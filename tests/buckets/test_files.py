"""Files, rows, manifests, metrics and locks in a bucket."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import ml_collections
import numpy as np
import pytest

from vpo_jax import buckets, errors, files, json_input, records, stages
from vpo_jax.runtime import lock
from vpo_jax.train import log


def objects(bucket):
  return buckets.names(bucket)


def test_text_bytes_and_folders(bucket):
  folder = bucket / "run" / "stage"
  files.write_text(folder / "a.txt", "Größe\u2028\n")
  files.write_json(folder / "b.json", {"ü": 1})
  with files.publish(folder / "c.npz", "wb") as file:
    np.savez(file, values=np.arange(5))
  assert (folder / "a.txt").read_bytes() == "Größe\u2028\n".encode()
  assert json_input.value(folder / "b.json") == {"ü": 1}
  with (folder / "c.npz").open("rb") as file, np.load(file) as stored:
    np.testing.assert_array_equal(stored["values"], np.arange(5))
  assert objects(bucket) == {
    f"run/stage/{name}" for name in ("a.txt", "b.json", "c.npz")
  }
  before = files.fingerprint(folder)
  files.write_text(folder / "a.txt", "other")
  assert files.fingerprint(folder) != before


@pytest.mark.parametrize("size", [10, 40_000_000])  # the second one in several parts
def test_a_file_whose_writer_fails_does_not_appear(bucket, size):
  files.write_text(bucket / "x", "before")
  for name, mode, content in (("x", "wb", b"1" * size), ("y", "w", "1" * size)):
    with contextlib.suppress(RuntimeError), files.publish(bucket / name, mode) as file:
      file.write(content)
      raise RuntimeError
  assert objects(bucket) == {"x"}
  assert (bucket / "x").read_text() == "before"


def test_large_files_are_read_back(bucket):
  content = np.random.default_rng(0).bytes(70_000_000)
  with files.publish(bucket / "x", "wb") as file:
    file.write(content)
  assert (bucket / "x").read_bytes() == content


def test_rows(bucket):
  rows = [records.Query(str(i), f"Frage ü {i}\u2028") for i in range(1000)]
  assert records.write(bucket / "rows.jsonl", rows) == 1000
  assert list(records.read(bucket / "rows.jsonl", records.Query)) == rows
  with pytest.raises(errors.UserError, match="no such file"):
    list(records.read(bucket / "none.jsonl", records.Query))


def make_stage(runs, fail=False):
  def run(work):
    runs.append(work.config.size)
    if fail:
      raise errors.UserError("fails")
    text = work.inputs["queries"].read_text()
    files.write_text(buckets.scratch(work.folder / "queue.txt"), "of no use later")
    files.write_text(work.folder / "out.txt", text * work.config.size)
    return {"size": work.config.size}

  inputs = (stages.Input("queries", "first/q.txt"),)
  return stages.Stage("second", run, inputs)


def test_a_stage_in_a_bucket(bucket):
  runs = []
  stage, workdir = make_stage(runs), bucket / "run"
  config = ml_collections.ConfigDict({"size": 2, "queries": ""})
  with pytest.raises(errors.UserError, match="does not exist; run the stage"):
    stages.run(stage, config, workdir)
  files.write_text(workdir / "first" / "q.txt", "q")
  assert stages.run(stage, config, workdir) == {"size": 2}
  assert stages.run(stage, config, workdir) == {"size": 2}
  assert runs == [2]
  assert (workdir / "second" / "out.txt").read_text() == "qq"
  assert "run/.second.lock" not in objects(bucket)
  assert not buckets.local_names(workdir / "second")
  config.size = 3
  with pytest.raises(errors.UserError, match=r"config\.size was 2 and is now 3"):
    stages.run(stage, config, workdir)


def test_a_stage_that_fails_before_it_writes_leaves_nothing(bucket):
  files.write_text(bucket / "first" / "q.txt", "q")
  config = ml_collections.ConfigDict({"size": 2, "queries": ""})
  with pytest.raises(errors.UserError, match="fails"):
    stages.run(make_stage([], fail=True), config, bucket)
  assert objects(bucket) == {"first/q.txt"}


def test_a_default_input_in_a_bucket_is_not_below_a_local_workdir(bucket, tmp_path):
  files.write_text(bucket / "q.txt", "q")
  stage = stages.Stage(
    "second",
    lambda work: {"text": work.inputs["x"].read_text()},
    (stages.Input("x", str(bucket / "q.txt")),),
  )
  config = ml_collections.ConfigDict({"x": ""})
  assert stages.run(stage, config, tmp_path) == {"text": "q"}


def test_a_stage_that_starts_anew_forgets_its_scratch(bucket):
  files.write_text(bucket / "first" / "q.txt", "q")
  old = buckets.scratch(bucket / "second" / "journal.sqlite")
  files.write_text(old, "of a run whose folder was removed")
  config = ml_collections.ConfigDict({"size": 2, "queries": ""})
  stages.run(make_stage([]), config, bucket)
  assert not old.exists()


def test_a_second_run_is_refused_and_a_dead_one_is_replaced(bucket, monkeypatch):
  path = bucket / "run" / ".stage.lock"
  with lock.held(path):
    with pytest.raises(errors.UserError, match=f"process {os.getpid()} on"):
      lock._acquire(path, {"token": "other"})
    assert json_input.value(path)["host"] == socket.gethostname()
  assert not path.exists()
  monkeypatch.setattr(lock, "SILENCE", 1.0)
  dead = {"host": "elsewhere", "pid": 1, "started": 0, "token": "t", "beat": 3}
  files.write_json(path, dead)
  with lock.held(path):
    assert json_input.value(path)["token"] != "t"


def test_two_runs_at_once_one_wins(bucket):
  held, refused, done = [], [], threading.Event()

  def one():
    try:
      with lock.held(bucket / ".lock"):
        held.append(1)
        done.wait(20)
    except errors.UserError:
      refused.append(1)
      done.set()

  threads = [threading.Thread(target=one) for _ in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (len(held), len(refused)) == (1, 1)


def test_the_heartbeat_is_seen(bucket, monkeypatch):
  monkeypatch.setattr(lock, "BEAT", 0.1)
  with lock.held(bucket / ".lock"):
    first = json_input.value(bucket / ".lock")["beat"]
    deadline = threading.Event()
    deadline.wait(2)
    assert json_input.value(bucket / ".lock")["beat"] > first


def test_metrics_appear_at_checkpoints_and_later_rows_are_dropped(bucket):
  folder = bucket / "train"
  metrics = log.Log(folder, -1)
  for step in (1, 2, 3):
    metrics.add(step, {"loss": 1 / step})
    if step == 2:
      metrics.publish()
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
  assert [row["step"] for row in rows] == [1, 2]
  boards = [name for name in objects(folder) if name.startswith("tensorboard/")]
  assert len(boards) == 1
  assert (folder / boards[0]).stat().length > 100
  metrics.close()
  again = log.Log(folder, 2)
  again.add(3, {"loss": 0.25})
  again.close()
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
  assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 0.5), (3, 0.25)]
  boards = [name for name in objects(folder) if name.startswith("tensorboard/")]
  assert len(boards) == 2


def test_a_missing_bucket_is_one_line_and_is_not_made(bucket):
  config = ml_collections.ConfigDict({"size": 2, "queries": ""})
  missing = f"{bucket}-missing"
  with pytest.raises(errors.UserError, match=f"{missing}: the bucket cannot be read"):
    stages.run(make_stage([]), config, f"{missing}/run")
  with pytest.raises(errors.UserError, match="the object store refuses it"):
    files.write_text(f"{missing}/run/a.txt", "a")
  with pytest.raises(errors.UserError, match="cannot be read"):
    buckets.check(missing)


def run_apart(code, **environment):
  ran = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    env=os.environ | environment,
    check=False,
  )
  return ran.stdout.strip(), ran.stderr


CHECK = """
import sys
{before}
from vpo_jax import buckets, errors
try:
  buckets.check({path!r})
except errors.UserError as error:
  print(error)
"""


@pytest.mark.parametrize(
  ("path", "package"), [("s3://x/y", "s3fs"), ("gs://x/y", "gcsfs")]
)
def test_a_missing_package_is_one_line(path, package):
  before = f"sys.modules[{package!r}] = None"
  out, err = run_apart(CHECK.format(before=before, path=path))
  assert out == f"{path[:6]}: {path[:5]} paths need a package: pip install {package}", (
    err
  )


def test_missing_credentials_are_one_line(bucket):
  out, err = run_apart(
    CHECK.format(before="", path=str(bucket)),
    AWS_ACCESS_KEY_ID="",
    AWS_SECRET_ACCESS_KEY="",
    HOME="/nonexistent",
  )
  assert "the bucket cannot be read" in out, err
  assert "\n" not in out


class Refusing(http.server.BaseHTTPRequestHandler):
  """Answers as S3 does to a wrong key."""

  def answer(self):
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    self.send_response(403)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)

  do_GET = do_HEAD = do_PUT = answer

  def log_message(self, *_):
    pass


def test_refused_credentials_are_one_line(endpoint):
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
      address = f"http://127.0.0.1:{server.server_port}"
      code = CHECK.format(before="", path="s3://bucket/x")
      out, err = run_apart(code, AWS_ENDPOINT_URL=address)
      code = code.replace("buckets.check(", "files.write_text(").replace(
        "x')", "x', 't')"
      )
      code = code.replace("buckets, errors", "files, errors")
      written, error = run_apart(code, AWS_ENDPOINT_URL=address)
    finally:
      server.shutdown()
  assert out.startswith("s3://bucket: the bucket cannot be read: Access Denied"), err
  assert written.startswith("s3://bucket/x: the object store refuses it: Acc"), error
  assert "\n" not in out + written


def test_another_scheme_is_refused():
  with pytest.raises(errors.UserError, match="paths are local, or begin with s3://"):
    buckets.check("az://x/y")


def test_compiled_programs_are_shared_in_the_bucket(bucket):
  code = (
    "import jax, sys\n"
    "from vpo_jax.runtime import compilation\n"
    "compilation.enable_cache(sys.argv[1])\n"
    "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
    "jax.config.update('jax_raise_persistent_cache_errors', True)\n"
    "jax.jit(lambda x: x * 3 + 1)(2.0)\n"
  )
  environment = {
    k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"
  }
  ran = subprocess.run(
    [sys.executable, "-c", code, str(bucket / "run")],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 0, ran.stderr
  assert any(name.startswith("run/compiled/") for name in objects(bucket))
