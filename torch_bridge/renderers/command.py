"""Renders with a command line, for systems outside diffusers such as Open-Sora 1.2.

`settings["command"]` is a list of arguments with placeholders: `{prompt}` is the prompt
as one line, `{prompts}` a file with one prompt per line; `{seed}` is the seed,
`{seeds}` a file with one seed per line; `{folder}` is the folder for the mp4 files;
`{programs}` is the folder torch_bridge/programs; any other setting is available by its
name. The files are taken in the order of the numbers in their names.

A command with `{seeds}` is run once per shard, so it loads its model once for many
videos. With the setting `one_by_one`, it makes one video after another and numbers the
files from 0; each is then published as soon as the next one exists. A command without
`{seeds}` is run once per video, although it may load its model each time: if one seed
gave the noise of a whole batch, a video would depend on the videos before it.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch_bridge import contract, video
from torch_bridge.renderers import base

_POLL_S = 0.5
_PROGRAMS = pathlib.Path(contract.__file__).parent / "programs"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class CommandRenderer:
  """Runs the command for each video, or for each shard if it has `{seeds}`."""

  def __init__(self, spec: dict[str, Any]):
    check(spec)
    self._checkout = spec["model"]
    command = spec["settings"]["command"]
    self.batches = self.streams = any("{seeds}" in part for part in command)
    self.made_by = {"renderer": "command", "command": command}

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> Iterator[base.Clip]:
    with tempfile.TemporaryDirectory(prefix="command-") as name:
      folder = pathlib.Path(name)
      command = self._prepare(requests, folder)
      given = 0
      for path in _run(command, self._checkout, folder, requests, heartbeat):
        yield base.Clip(path.read_bytes())
        given += 1
      if given != len(requests):
        raise RuntimeError(
          f"the command made {given} videos instead of {len(requests)}:"
          f" {_end_of_log(folder)}"
        )

  def _prepare(
    self, requests: Sequence[contract.RenderRequest], folder: pathlib.Path
  ) -> list[str]:
    """Writes the files that the command reads; returns its arguments."""
    (folder / "videos").mkdir()
    # One line per prompt, also for a prompt with line breaks.
    lines = [" ".join(base.text(request).split()) for request in requests]
    seeds = [str(request.seed) for request in requests]
    values = {
      **requests[0].settings,
      "prompt": lines[0],
      "prompts": str(_write_lines(folder / "prompts.txt", lines)),
      "seed": seeds[0],
      "seeds": str(_write_lines(folder / "seeds.txt", seeds)),
      "folder": str(folder / "videos"),
      "programs": str(_PROGRAMS),
    }
    return fill(requests[0].settings["command"], values)


def _write_lines(path: pathlib.Path, lines: Sequence[str]) -> pathlib.Path:
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


def fill(command: Sequence[str], values: dict[str, Any]) -> list[str]:
  """The command with its placeholders replaced; unknown ones are left as they are.

  A value is not searched for placeholders.
  """

  def replace(match: re.Match) -> str:
    return str(values.get(match[1], match[0]))

  return [_PLACEHOLDER.sub(replace, part) for part in command]


def _run(
  command: list[str],
  checkout: str,
  folder: pathlib.Path,
  requests: Sequence[contract.RenderRequest],
  heartbeat: Callable[[], None],
) -> Iterator[pathlib.Path]:
  """Runs the command and yields its videos in order, once they are complete.

  Raises:
    OutOfMemory, RuntimeError: the command failed. Videos that were complete by then are
      yielded before.
  """
  one_by_one = requests[0].settings.get("one_by_one", False)
  given = 0
  with (folder / "log").open("wb") as log:
    process = subprocess.Popen(command, cwd=checkout, stdout=log, stderr=log)
    try:
      # The only sign of progress is the number of files.
      seen = -1
      while process.poll() is None:
        made = sum(1 for _ in (folder / "videos").rglob("*"))
        if made != seen:
          seen = made
          heartbeat()
        if one_by_one:  # the last file may be incomplete
          for path in _videos(folder, len(requests))[given:-1]:
            yield path
            given += 1
        time.sleep(_POLL_S)
    finally:
      process.kill()
      process.wait()
  found = _videos(folder, len(requests))
  if process.returncode:
    if one_by_one:
      shortest = requests[0].settings["num_frames"]
      last_is_whole = bool(found) and _is_whole(found[-1], shortest)
      yield from found[given : None if last_is_whole else -1]
    reason = _end_of_log(folder)
    if "out of memory" in reason.lower():
      raise base.OutOfMemory(reason)
    raise RuntimeError(f"the command failed with {process.returncode}: {reason}")
  yield from found[given:]


def _videos(folder: pathlib.Path, most: int) -> list[pathlib.Path]:
  """The videos in the order of their numbers.

  Raises:
    RuntimeError: the videos cannot be matched to the prompts.
  """
  found = sorted((folder / "videos").rglob("*.mp4"), key=_numbers)
  numbers = {tuple(_numbers(path)) for path in found}
  if len(found) > most or len(numbers) < len(found):
    names = ", ".join(path.name for path in found[:4])
    raise RuntimeError(
      f"the command made {len(found)} videos for {most} prompts, named {names}"
    )
  return found


def _is_whole(path: pathlib.Path, frames: int) -> bool:
  try:
    return len(video.read(path)[0]) >= frames
  except video.BadVideo:
    return False


def _numbers(path: pathlib.Path) -> list[int]:
  """The numbers in a file's name, so that sample_2 comes before sample_10."""
  return [int(digits) for digits in re.findall(r"\d+", path.stem)]


def _end_of_log(root: pathlib.Path) -> str:
  text = (root / "log").read_text(encoding="utf-8", errors="replace")
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return " ".join(lines[-2:])[-300:] or "no output"


def check(spec: dict[str, Any]) -> None:
  """Checks the settings before anything starts.

  Raises:
    ModelError: there is no command, or no folder to run it in.
  """
  if not spec["settings"].get("command"):
    raise base.ModelError("the command renderer needs a command in its settings")
  if not pathlib.Path(spec["model"]).is_dir():
    raise base.ModelError(
      f"{spec['model']}: no such folder; name the command's working directory with"
      " --config.renderer.model"
    )


make = CommandRenderer
