"""A thousand videos while workers are killed and files damaged (slow).

Prints its figures: pytest -m slow -s tests/feedback/test_soak.py
"""

import contextlib
import json
import os
import random
import signal
import threading
import time

import batch
import pytest

_REQUESTS = int(os.environ.get("SOAK_REQUESTS", "1000"))
_KILLING_S = 60.0


class _Saboteur(threading.Thread):
  """Damages one video and one shard, then kills a worker every few seconds."""

  def __init__(self, folder):
    super().__init__(daemon=True)
    self.kills = 0
    self.stop = threading.Event()
    self._folder = folder

  def run(self):
    while not list(self._folder.glob("store/videos/*/*.json")):
      time.sleep(0.2)
    self._damage()
    began = time.monotonic()
    chance = random.Random(0)
    while time.monotonic() - began < _KILLING_S and not self.stop.wait(5.0):
      self._kill(chance)

  def _damage(self):
    video = next(self._folder.glob("store/videos/*/*.json")).with_suffix(".mp4")
    video.write_bytes(video.read_bytes()[:400])
    pending = next((self._folder / "render" / "pending").glob("*.jsonl"))
    with pending.open("a") as file:
      file.write('{"id": "unterminated\n')

  def _kill(self, chance):
    beats = list((self._folder / "render" / "beats").glob("[0-9]*.json"))
    beats.sort(key=lambda path: path.stat().st_mtime)
    for path in chance.sample(beats[-2:], len(beats[-2:])):
      with contextlib.suppress(OSError):
        os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
        self.kills += 1
        return


@pytest.mark.slow
def test_no_result_is_lost_or_duplicated(scripted, tmp_path):
  config, count = scripted
  config.bridge.restarts = 20
  config.bridge.hang_s = 300.0
  prompts = batch.good(_REQUESTS, "slow")
  saboteur = _Saboteur(tmp_path)
  saboteur.start()
  began = time.monotonic()
  link, results = batch.run(config, tmp_path, *prompts)
  seconds = time.monotonic() - began
  saboteur.stop.set()
  saboteur.join()
  calls = count()
  repeated = sum(calls[prompt] - 1 for prompt in prompts)
  print(
    f"\n{len(prompts)} requests, {saboteur.kills} kills, {link.restarts} restarts,"
    f" {repeated} rendered again, {seconds:.0f} s"
  )
  assert all(result.answers for result in results)
  assert len({result.video.id for result in results}) == len(prompts)
  assert saboteur.kills >= 5 or len(prompts) < 1000
  # At most one video per kill, and the one that was damaged on disk.
  assert 1 <= repeated <= saboteur.kills + 1
  bad = [json.loads(p.read_text()) for p in tmp_path.glob("render/failures/*.json")]
  assert [row["stage"] for row in bad] == ["request"]
