import gc
import json
import weakref
from concurrent import futures

import pytest

from torch_bridge import contract, loop, shards
from torch_bridge.renderers import base


def _queue(tmp_path, count=5, size=2):
  queue = shards.Queue(tmp_path)
  rows = [contract.score_request(str(i), "s", "t", "query") for i in range(count)]
  queue.refill(rows, size)
  return queue, rows


def test_each_shard_goes_to_one_worker_and_no_row_is_lost(tmp_path):
  queue, rows = _queue(tmp_path)
  taken = []
  while (one := queue.take("a")) and (two := queue.take("b")):
    taken += [one, two]
  taken += [one] if one else []
  assert len({path.name for path in taken}) == len(taken) == 3
  read = [row for p in taken for row in contract.read_rows(p, contract.ScoreRequest)]
  assert sorted(read, key=lambda row: row.video_id) == rows


def test_a_dead_workers_shard_is_pending_again(tmp_path):
  queue, _ = _queue(tmp_path)
  shard = queue.take("a")
  assert queue.release("a") == 1
  assert queue.take("b").name == shard.name


def test_a_try_is_counted_before_it_starts(tmp_path):
  queue, rows = _queue(tmp_path)
  first = queue.begin(rows[0].id, "score")
  assert (first.tries, first.reason) == (1, "the worker crashed")
  queue.record_try(contract.Failure(rows[0].id, "score", "no luck", 1))
  assert queue.begin(rows[0].id, "score") == contract.Failure(
    rows[0].id, "score", "no luck", 2
  )
  queue.succeed(rows[0].id)
  assert queue.tried(rows[0].id) is None


def test_a_request_stays_set_aside_in_the_next_run(tmp_path):
  queue, rows = _queue(tmp_path)
  failure = contract.Failure(rows[0].id, "score", "no luck", 3)
  queue.set_aside(failure)
  queue.refill(rows, 2)
  assert queue.failure(rows[0].id) == failure


def test_every_heartbeat_differs_from_the_previous_one(tmp_path):
  queue, _ = _queue(tmp_path)
  heartbeat = shards.Heartbeat(queue, "a", every_s=0)
  seen = {shards.read_heartbeat(queue, "a")}
  for _ in range(3):
    heartbeat("working")
    seen.add(shards.read_heartbeat(queue, "a"))
  assert len(seen) == 4


def test_threads_may_share_a_heartbeat(tmp_path):
  queue, _ = _queue(tmp_path)
  heartbeat = shards.Heartbeat(queue, "a", every_s=0)
  with futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: heartbeat(), range(400)))
  assert json.loads(shards.read_heartbeat(queue, "a"))["beats"] == 400


class _Tensor:
  """Represents data in device memory."""


@pytest.mark.parametrize(
  "error",
  [
    base.OutOfMemory("full"),
    pytest.param(RuntimeError("no luck"), marks=pytest.mark.slow),
  ],
)
def test_memory_of_a_failed_batch_is_released_before_the_next_try(tmp_path, error):
  queue, rows = _queue(tmp_path, 4, 4)

  class Task:
    stage, row_type, held, sizes = "score", contract.ScoreRequest, lambda: None, []

    def is_done(self, row):
      return False

    def can_share(self, one, two):
      return True

    def work(self, batch, heartbeat):
      gc.collect()
      assert Task.held() is None
      tensor = _Tensor()
      Task.held = weakref.ref(tensor)
      Task.sizes.append(len(batch))
      if len(batch) > 1:
        raise type(error)(str(error)) from ValueError("the cause holds frames too")
      for row in batch:
        yield row, None

  work = loop.Loop(queue, Task(), shards.Heartbeat(queue, "w"), batch=4)
  assert work.run(queue.take("w"))
  halved = [4, 2, 1, 1, 2, 1, 1]
  assert Task.sizes == (halved if "full" in str(error) else [4, 1, 1, 1, 1])
  assert not any(queue.failure(row.id) or queue.tried(row.id) for row in rows)


def test_of_a_stream_only_the_interrupted_request_counts_as_tried(tmp_path):
  """A worker that is killed with a shard of 16 does not suspect all of them."""
  queue, rows = _queue(tmp_path, 4, 4)

  class Killed(BaseException):
    pass

  class Task:
    stage, row_type, streams, sizes = "score", contract.ScoreRequest, True, []

    def is_done(self, row):
      return False

    def can_share(self, one, two):
      return True

    def work(self, batch, heartbeat):
      Task.sizes.append(len(batch))
      for row in batch:
        if row.id == rows[2].id:
          raise Killed
        yield row, None

  work = loop.Loop(queue, Task(), shards.Heartbeat(queue, "w"), batch=1)
  with pytest.raises(Killed):
    work.run(queue.take("w"))
  assert Task.sizes == [4]
  assert [bool(queue.tried(row.id)) for row in rows] == [False, False, True, False]
