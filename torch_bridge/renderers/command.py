"""Videos by a command line: for systems outside diffusers, such as Open-Sora 1.2.

`settings["command"]` is a list of arguments with holes: `{prompt}` is the prompt on one
line, `{prompts}` a file of prompts, one a line; `{seed}` is the video's seed, `{seeds}`
a file of seeds, one a line; `{folder}` is where the videos go; any other setting fills
a hole of its name. The mp4 files are taken in the order of their numbers.

A command with the hole `{seeds}` is run once a batch. Any other has one seed, and would
draw the noise of a whole batch from it, so that a video depended on those before it: it
is run once a video, though it may load its model each time.
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
_HOLE = re.compile(r"\{(\w+)\}")


class CommandRenderer:
  """Runs the command for each video, or for a batch where it takes many seeds."""

  def __init__(self, spec: dict[str, Any]):
    check(spec)
    self._checkout = spec["model"]
    command = spec["settings"]["command"]
    self.batches = any("{seeds}" in part for part in command)
    self.made_by = {"renderer": "command", "command": command}

  def render(
    self, requests: Sequence[contract.RenderRequest], beat: Callable[[], None]
  ) -> list[base.Clip]:
    with tempfile.TemporaryDirectory(prefix="command-") as scratch:
      return self._render(requests, pathlib.Path(scratch), beat)

  def _render(
    self,
    requests: Sequence[contract.RenderRequest],
    root: pathlib.Path,
    beat: Callable[[], None],
  ) -> list[base.Clip]:
    (root / "videos").mkdir()
    # One line a prompt, whatever is in it.
    lines = [" ".join(request.prompt.split()) for request in requests]
    seeds = [str(request.seed) for request in requests]
    values = {
      **requests[0].settings,
      "prompt": lines[0],
      "prompts": str(_listed(root / "prompts.txt", lines)),
      "seed": seeds[0],
      "seeds": str(_listed(root / "seeds.txt", seeds)),
      "folder": str(root / "videos"),
    }
    _run(filled(requests[0].settings["command"], values), self._checkout, root, beat)
    found = sorted((root / "videos").rglob("*.mp4"), key=_numbers)
    if len(found) != len(requests):
      raise RuntimeError(
        f"the command made {len(found)} videos of {len(requests)}: {_tail(root)}"
      )
    return [base.Clip(path.read_bytes()) for path in found]


def _listed(path: pathlib.Path, lines: Sequence[str]) -> pathlib.Path:
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


def filled(command: Sequence[str], values: dict[str, Any]) -> list[str]:
  """The command with its holes filled, in one pass; an unknown hole stays."""

  def fill(match: re.Match) -> str:
    return str(values.get(match[1], match[0]))

  return [_HOLE.sub(fill, part) for part in command]


def _run(
  command: list[str], folder: str, root: pathlib.Path, beat: Callable[[], None]
) -> None:
  with (root / "log").open("wb") as log:
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
      # It cannot say that it gets on; the videos it has made do.
      seen = -1
      while process.poll() is None:
        made = sum(1 for _ in (root / "videos").rglob("*"))
        if made != seen:
          seen = made
          beat()
        time.sleep(_POLL_S)
    finally:
      process.kill()
      process.wait()
  if process.returncode:
    tail = _tail(root)
    if "out of memory" in tail.lower():
      raise base.OutOfMemory(tail)
    raise RuntimeError(f"the command ended with {process.returncode}: {tail}")


def _numbers(path: pathlib.Path) -> list[int]:
  """The numbers in a file's name: sample_2 comes before sample_10."""
  return [int(digits) for digits in re.findall(r"\d+", path.stem)]


def _tail(root: pathlib.Path) -> str:
  text = (root / "log").read_text(encoding="utf-8", errors="replace")
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return " ".join(lines[-2:])[-300:] or "it said nothing"


def check(spec: dict[str, Any]) -> None:
  """Looks at the settings before anything starts.

  Raises:
    ModelError: there is no command, or no folder to run it in.
  """
  if not spec["settings"].get("command"):
    raise base.ModelError("the command renderer needs a command in its settings")
  if not pathlib.Path(spec["model"]).is_dir():
    raise base.ModelError(
      f"{spec['model']}: name the folder in which the command is to run with"
      " --config.renderer.model"
    )


make = CommandRenderer
