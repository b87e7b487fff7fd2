"""The bridge with a workdir and a store in a bucket; workers are real processes."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import batch
import pytest

from tests import waiting
from tests.feedback import conftest as feedback_conftest
from torch_bridge import contract
from vpo_jax import buckets, errors, files, records
from vpo_jax.evaluate.vbench import layout
from vpo_jax.feedback import bridge
from vpo_jax.feedback import store as stores

ROOT = str(pathlib.Path(__file__).parents[2])

scripted = feedback_conftest.scripted


def empty_scratch(bucket):
  shutil.rmtree(buckets.scratch(bucket), ignore_errors=True)


def kept(bucket, suffix, folder="videos"):
  names = buckets.names(bucket / "store" / folder)
  return {name for name in names if name.endswith(suffix)}


def test_another_machine_renders_nothing_again(bucket, scripted):
  config, count = scripted
  _, results = batch.run(config, bucket, *batch.good(5))
  assert len(kept(bucket, ".mp4")) == len(kept(bucket, ".json")) == 5
  assert len(kept(bucket, ".json", "answers")) == 5
  assert len((bucket / "requests.jsonl").read_text().splitlines()) == 5
  before = count()
  empty_scratch(bucket)
  link, again = batch.run(config, bucket, *batch.good(7))
  assert again[:5] == results
  assert (link.rendered, link.scored) == (2, 2)
  assert len(count()) == len(before) + 2
  queues = ("render/", "score/", ".aside-", "hashes/")
  found = buckets.names(bucket)
  assert not [name for name in found if name.startswith(queues)]


def test_a_damaged_video_is_rendered_and_stored_again(bucket, scripted):
  config, _ = scripted
  _, results = batch.run(config, bucket, *batch.good(2))
  path = bucket / "store" / results[0].video.path
  files.write_text(path, "damaged")
  empty_scratch(bucket)
  link, again = batch.run(config, bucket, *batch.good(2))
  assert link.rendered == 1
  assert path.stat().length > 100
  assert [one.answers for one in again] == [one.answers for one in results]


def test_killed_in_the_middle_finished_videos_are_in_the_bucket(bucket, scripted):
  config, _ = scripted
  config.bridge.workers = 1
  prompts = batch.good(4) + [f"slow {i}" for i in range(4)]
  code = (
    "import sys, batch, json, ml_collections\n"
    "from etils import epath\n"
    "config = ml_collections.ConfigDict(json.loads(sys.argv[1]))\n"
    "batch.run(config, epath.Path(sys.argv[2]), *sys.argv[3:])\n"
  )
  helpers = os.path.dirname(batch.__file__)
  path = os.pathsep.join([helpers, os.environ["PYTHONPATH"], ROOT])
  process = subprocess.Popen(
    [sys.executable, "-c", code, config.to_json(), str(bucket), *prompts],
    env=os.environ | {"PYTHONPATH": path},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  waiting.until(lambda: kept(bucket, ".json"), lambda: process.poll() is None)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  rows = kept(bucket, ".json")
  assert rows
  assert {name[:-5] for name in rows} <= {name[:-4] for name in kept(bucket, ".mp4")}
  assert not kept(bucket, ".json", "answers")
  empty_scratch(bucket)
  link, results = batch.run(config, bucket, *prompts)
  assert link.rendered == len(prompts) - len(rows)
  assert all(one.answers for one in results)
  assert len(kept(bucket, ".mp4")) == len(prompts)


def test_what_was_not_stored_yet_is_stored_by_the_next_run(bucket):
  store = stores.Store(bucket / "store")
  files.write_text(store.local.video("abc"), "video")
  files.write_text(store.local.rendered("abc"), "row")
  files.write_text(store.local.video("def"), "of another run")
  store.fetch(["abc"])
  assert buckets.names(bucket / "store") == {"videos/ab/abc.mp4", "videos/ab/abc.json"}


def test_a_refused_upload_is_one_line(bucket):
  store = stores.Store(bucket / "store")
  files.write_text(store.local.answers("abc"), "row")
  (bucket / "x").write_text("so that the bucket can be removed")
  bucket.rmtree()
  store.keep("score", "abc")
  with pytest.raises(errors.UserError, match="the object store refuses it"):
    store.wait()
  buckets._system(bucket)[0].mkdir(str(bucket))


def test_videos_for_vbench_come_from_the_bucket(bucket, scripted, tmp_path):
  config, _ = scripted
  _, results = batch.run(config, bucket, "good 1")
  row = records.Scored(
    *("q", "a cat", 0, "p", results[0].video_id, 0, 0.0, 0.0, {}, (True,), {})
  )
  records.write(bucket / "scores.jsonl", [row])
  empty_scratch(bucket)
  videos = layout.scored(bucket / "scores.jsonl", bucket / "store")
  layout.lay_out(videos, tmp_path / "out")
  sha = contract.sha256(tmp_path / "out" / "a cat-0.mp4")
  assert sha == results[0].video.sha256
  with pytest.raises(errors.UserError, match="VBench needs a local folder"):
    layout.lay_out(videos, bucket / "out")


@pytest.mark.parametrize("part", ["renderer.model", "scorer.model", "scorer.questions"])
def test_models_of_the_workers_are_local(scripted, part):
  config, _ = scripted
  config.update_from_flattened_dict({part: "s3://bucket/x"})
  with pytest.raises(errors.UserError, match=rf"config\.{part}=s3://bucket/x"):
    bridge.check(config)
