"""Renders with a command line, for systems outside diffusers such as Open-Sora 1.2.

`settings["command"]` is a list of arguments with placeholders: `{prompt}` is the prompt
as one line, `{prompts}` a file with one prompt per line; `{seed}` is the seed,
`{seeds}` a file with one seed per line; `{folder}` is the folder for the mp4 files; any
other setting is available by its name. The files are taken in the order of the numbers
in their names.

A command with `{seeds}` is run once per batch. A command with one seed would draw the
noise of a whole batch from it, so that a video depended on those before it; it is run
once per video, although it may load its model each time.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch_bridge import contract
from torch_bridge.renderers import base

_POLL_S = 0.5
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class CommandRenderer:
  """Runs the command for each video, or for each batch if it has `{seeds}`."""

  def __init__(self, spec: dict[str, Any]):
    check(spec)
    self._checkout = spec["model"]
    command = spec["settings"]["command"]
    self.batches = any("{seeds}" in part for part in command)
    self.made_by = {"renderer": "command", "command": command}

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> list[base.Clip]:
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
      return self._render(requests, pathlib.Path(folder), heartbeat)

  def _render(
    self,
    requests: Sequence[contract.RenderRequest],
    root: pathlib.Path,
    heartbeat: Callable[[], None],
  ) -> list[base.Clip]:
    (root / "videos").mkdir()
    # One line per prompt, also for a prompt with line breaks.
    lines = [" ".join(request.prompt.split()) for request in requests]
    seeds = [str(request.seed) for request in requests]
    values = {
      **requests[0].settings,
      "prompt": lines[0],
      "prompts": str(_write_lines(root / "prompts.txt", lines)),
      "seed": seeds[0],
      "seeds": str(_write_lines(root / "seeds.txt", seeds)),
      "folder": str(root / "videos"),
    }
    command = fill(requests[0].settings["command"], values)
    _run(command, self._checkout, root, heartbeat)
    found = sorted((root / "videos").rglob("*.mp4"), key=_numbers)
    if len(found) != len(requests):
      raise RuntimeError(
        f"the command made {len(found)} videos instead of {len(requests)}:"
        f" {_end_of_log(root)}"
      )
    return [base.Clip(path.read_bytes()) for path in found]


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
  command: list[str], folder: str, root: pathlib.Path, heartbeat: Callable[[], None]
) -> None:
  with (root / "log").open("wb") as log:
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
      # The only sign of progress is the number of files.
      seen = -1
      while process.poll() is None:
        made = sum(1 for _ in (root / "videos").rglob("*"))
        if made != seen:
          seen = made
          heartbeat()
        time.sleep(_POLL_S)
    finally:
      process.kill()
      process.wait()
  if process.returncode:
    reason = _end_of_log(root)
    if "out of memory" in reason.lower():
      raise base.OutOfMemory(reason)
    raise RuntimeError(f"the command failed with {process.returncode}: {reason}")


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
