"""Metrics are written every step, and a resumed run continues them."""

import json
import struct

from tensorboardX.proto import event_pb2

from vpo_jax.train import log


def rows(folder):
  return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def board(folder):
  """Steps and values of the TensorBoard files, as TensorBoard shows them."""
  shown = {}
  for path in sorted((folder / "tensorboard").iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack("<Q", data[:8])  # of a TFRecord, between checksums
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      data = data[16 + length :]
      if event.HasField("session_log"):  # later steps of an earlier file are hidden
        shown = {step: x for step, x in shown.items() if step < event.step}
      for value in event.summary.value:
        shown[event.step] = value.simple_value
  return shown


def test_a_row_is_written_at_once(tmp_path):
  metrics = log.Log(tmp_path, -1)
  for step in range(3):
    metrics.add(step, {"loss": 0.5 * step})
    assert rows(tmp_path)[-1] == {"step": step, "loss": 0.5 * step}
    assert board(tmp_path)[step] == 0.5 * step
  metrics.close()


def test_a_killed_run_continues_from_its_checkpoint(tmp_path):
  """Rows after the checkpoint are replaced, half a line among them."""
  killed = log.Log(tmp_path, -1)
  for step in range(6):
    killed.add(step, {"loss": 1.0})
  killed.close()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "lo')
  resumed = log.Log(tmp_path, 4)
  assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2, 3, 4]
  for step in (5, 6):
    resumed.add(step, {"loss": 2.0})
  resumed.close()
  losses = {row["step"]: row["loss"] for row in rows(tmp_path)}
  assert losses == board(tmp_path) == dict.fromkeys(range(5), 1.0) | {5: 2.0, 6: 2.0}
  assert len(rows(tmp_path)) == 7
