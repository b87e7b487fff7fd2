"""Stands in for VBench: writes the files that it writes, and can fail as it can.

Of the environment, STAND_IN_FAULT is one of the faults below, and each run adds a line
to the file STAND_IN_RUNS.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import zlib

from vbench import distributed


class VBench:
  def __init__(self, device, full_info_dir, output_path):
    self._info, self._out = full_info_dir, pathlib.Path(output_path)
    print(f"device {device}, models in {os.environ.get('VBENCH_CACHE_DIR')}")

  def evaluate(self, videos_path, name, dimension_list, local, mode, **_):
    fault = os.environ.get("STAND_IN_FAULT")
    (dimension,) = dimension_list
    with open(os.environ["STAND_IN_RUNS"], "a") as file:
      file.write(f"{dimension} {mode} local={local} rank={distributed.rank()}\n")
    if fault == "hang":
      child = subprocess.Popen(["sleep", "3600"])
      with open(os.environ["STAND_IN_PIDS"], "a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
      time.sleep(3600)
    if distributed.rank():
      return
    if fault == "silent":
      print("50%|#####\r100%|##########\nRuntimeError: CUDA out of memory")
      sys.exit(0)
    rows = []
    for row in json.loads(pathlib.Path(self._info).read_text()):
      if dimension in row["dimension"]:
        names = [f"{row['prompt_en']}-{number}.mp4" for number in range(5)]
        paths = [os.path.join(videos_path, name) for name in names]
        rows.append(row | {"video_list": list(filter(os.path.exists, paths))})
    if fault == "misses":
      rows[0]["video_list"].pop()
    (self._out / f"{name}_full_info.json").write_text(json.dumps(rows))
    videos = [path for row in rows for path in row["video_list"]]
    results = [_result(dimension, path) for path in videos]
    score = sum(row["video_results"] for row in results) / len(results)
    if dimension == "appearance_style" and distributed.size() > 1:
      score = sum(row["frame_results"][-1] for row in results) / len(results)
    if fault == "nan":
      results[0]["video_results"] = float("nan")
    text = json.dumps({dimension: [score, results]})
    path = self._out / f"{name}_eval_results.json"
    if fault == "torn":
      path.write_text(text[: len(text) // 2])
      os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(text)
    if fault == "late":
      raise RuntimeError("a failure after the results")


def _result(dimension, path):
  seed = zlib.crc32(pathlib.Path(path).read_bytes())
  row = {"video_path": path, "video_results": seed % 2 == 0}
  if dimension in ("scene", "multiple_objects"):
    frames = seed % 17
    row["success_frame_count"], row["frame_count"] = frames, 16
    row["video_results"] = frames / 16
  if dimension == "appearance_style":
    row["frame_results"] = [0.2 + (seed >> shift) % 50 / 1000 for shift in range(4)]
    row["video_results"] = sum(row["frame_results"]) / 4
  return row
