"""Runs VBench in its own interpreter, one dimension after the other.

    OUT/DIMENSION.json        what was scored, and the name of the result file
    OUT/DIMENSION.log         VBench's output of all attempts
    OUT/DIMENSION/            VBench's own files of the last attempt

VBench's exit code says little: its console script exits with 0 after a failure, and a
process can fail at its end, with the results written. A complete result file counts,
whatever the exit code; without it an attempt has failed.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from vpo_jax import errors, files, json_input
from vpo_jax.evaluate.vbench import installation, layout, prompts, results
from vpo_jax.runtime import allocator, console

_TAIL = 3  # lines of the log in an error


def evaluate(
  vbench: installation.Installation,
  videos: pathlib.Path,
  wanted: Sequence[prompts.Prompt],
  videos_per_prompt: int,
  out: str | os.PathLike,
) -> dict[str, results.Result]:
  """Scores videos in all dimensions of some prompts; returns the result by dimension.

  A dimension whose result is in `out` and was made from the same videos, by the same
  code of VBench, is not scored again.

  Args:
    videos: the folder of `layout.lay_out`.
    wanted: the prompts, of `prompts.read`.
    out: a local folder for results and logs.

  Raises:
    UserError: videos are missing, or VBench fails in a dimension; the results of the
      dimensions before it are kept.
  """
  if files.is_bucket(out):
    raise errors.UserError(f"{out}: VBench needs a local folder")
  folder = pathlib.Path(out).resolve()
  folder.mkdir(parents=True, exist_ok=True)
  wanted = list(wanted)
  there = {path.name for path in videos.iterdir()}
  expected = layout.expected(wanted, videos_per_prompt)
  found = [video for video in expected if layout.name(*video) in there]
  layout.check(found, wanted, videos_per_prompt)
  dimensions = dict.fromkeys(name for prompt in wanted for name in prompt.dimensions)
  return {
    dimension: _dimension(
      vbench,
      dimension,
      videos.resolve(),
      layout.expected(wanted, videos_per_prompt, dimension),
      folder,
    )
    for dimension in dimensions
  }


def _dimension(
  vbench: installation.Installation,
  dimension: str,
  videos: pathlib.Path,
  expected: Sequence[layout.Video],
  out: pathlib.Path,
) -> results.Result:
  made_from = {
    "vbench": vbench.fingerprint,
    "mode": vbench.mode,
    "info": files.fingerprint(vbench.info),
    "videos": _fingerprint(videos, expected),
  }
  record, own = out / f"{dimension}.json", out / dimension
  earlier = _earlier(record, made_from, own, expected)
  if earlier:
    return earlier
  record.unlink(missing_ok=True)
  if own.exists():
    shutil.rmtree(own)
  own.mkdir()
  log = out / f"{dimension}.log"
  console.say(f"VBench: {dimension}, {len(expected)} videos (log: {log})")
  begin = log.stat().st_size if log.exists() else 0
  if vbench.mode == "long":  # it writes clips into the folder of the videos
    videos = _own_folder(videos, expected, own / "videos")
  code = _run(_command(vbench, dimension, videos, expected, own), vbench, log, own)
  try:
    result, path = _result(own, dimension, expected)
  except errors.UserError as error:
    raise errors.UserError(
      f"VBench: {dimension}: {error}; {_ended(code)}{_tail(log, begin)} (log: {log})"
    ) from error
  if code:
    console.say(f"VBench: {dimension}: its result is complete, but {_ended(code)}")
  if vbench.mode == "long":
    shutil.rmtree(videos)
  files.write_json(
    record, {"made_from": made_from, "result": path.name, "exit_code": code}
  )
  return result


def _earlier(
  record: pathlib.Path,
  made_from: Any,
  folder: pathlib.Path,
  expected: Sequence[layout.Video],
) -> results.Result | None:
  """The result of an earlier run with the same videos and code."""
  try:
    if json_input.value(record)["made_from"] == made_from:
      return _result(folder, record.stem, expected)[0]
  except (errors.UserError, KeyError, TypeError):
    pass  # no record, or no valid result: the dimension is run again
  return None


def _result(
  folder: pathlib.Path, dimension: str, expected: Sequence[layout.Video]
) -> tuple[results.Result, pathlib.Path]:
  """Reads VBench's two files in a folder.

  Raises:
    UserError: they are missing or incomplete.
  """
  paths = list(folder.glob("*_eval_results.json"))
  if not paths:
    raise errors.UserError("it wrote no result file")
  lists = list(folder.glob("*_full_info.json"))
  found = results.found_videos(lists[0], dimension) if lists else 0
  if found != len(expected):
    raise errors.UserError(f"it found {found} of {len(expected)} videos")
  return results.read(paths[0], dimension, expected), paths[0]


def _command(
  vbench: installation.Installation,
  dimension: str,
  videos: pathlib.Path,
  expected: Sequence[layout.Video],
  out: pathlib.Path,
) -> list[str]:
  start = [vbench.python]
  if vbench.gpus > 1:
    start += [
      *("-m", "torch.distributed.run"),
      *("--standalone", f"--nproc_per_node={vbench.gpus}"),
    ]
  samples = 1 + max(number for _, number in expected)
  return [
    *start,
    str(installation.PROGRAM),
    f"--dimension={dimension}",
    f"--videos={videos}",
    f"--info={vbench.info}",
    f"--out={out}",
    f"--checkout={vbench.checkout}",
    f"--device={'cuda' if vbench.gpus else 'cpu'}",
    *(["--local"] if vbench.cache_dir else []),
    *([f"--samples={samples}"] if vbench.mode == "long" else []),
    "--end_with_stdin",
  ]


def _run(
  command: Sequence[str],
  vbench: installation.Installation,
  log: pathlib.Path,
  folder: pathlib.Path,
) -> int:
  """Runs VBench to its end; returns the exit code.

  Its processes are a group of their own. They are killed if this process is
  interrupted, and kill themselves if it is killed: the pipe to their standard input
  closes then.
  """
  env = allocator.user_environment()
  if vbench.cache_dir:
    env["VBENCH_CACHE_DIR"] = vbench.cache_dir
  with log.open("ab") as file:
    try:
      process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=folder,
        process_group=0,
      )
    except OSError as error:
      raise errors.UserError(
        f"vbench.python={vbench.python}: {error.strerror}"
      ) from error
  with process:
    try:
      return process.wait()
    finally:
      _kill_group(process.pid)


def _kill_group(leader: int) -> None:
  """Kills what is left of a process group, such as downloads."""
  with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
    os.killpg(leader, signal.SIGKILL)


def _own_folder(
  videos: pathlib.Path, expected: Sequence[layout.Video], out: pathlib.Path
) -> pathlib.Path:
  paths = {video: videos / layout.name(*video) for video in expected}
  return layout.lay_out(paths, out)


def _fingerprint(videos: pathlib.Path, expected: Sequence[layout.Video]) -> str:
  digest = hashlib.sha256()
  for video in sorted(expected):
    name = layout.name(*video)
    digest.update(f"{name}\n{files.fingerprint(videos / name)}\n".encode())
  return digest.hexdigest()[:16]


def _ended(code: int) -> str:
  if code < 0:
    return f"its process was killed by {signal.Signals(-code).name}"
  return f"its process ended with exit code {code}"


def _tail(log: pathlib.Path, begin: int) -> str:
  """The last lines that an attempt has logged."""
  with log.open("rb") as file:
    file.seek(begin)
    text = file.read().decode(errors="replace")
  lines = list(_lines(text))[-_TAIL:]
  return f"; its last lines: {' | '.join(lines)}" if lines else "; it printed nothing"


def _lines(text: str) -> Iterator[str]:
  """A log's lines without overwritten progress bars and a traceback's underlines."""
  for line in text.split("\n"):
    shown = line.rstrip("\r").rpartition("\r")[2].strip()
    if shown.strip("~^ "):
      yield shown
