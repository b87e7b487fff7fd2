"""Draws a contact sheet: one row per query, one column per system, as a PNG.

    python -m torch_bridge.sheet rows.json sheet.png

rows.json holds "columns" (the systems' names), "font" (a TrueType file) and "rows".
Each row has a "title", a "note" and a cell per column: "video" (a file; "" if there is
none), "reward", "prompt" and "note".
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_bridge import contract, video

HEIGHT = 96  # of a frame, in pixels
_GAP, _SPACE, _MARGIN = 2, 22, 24  # between frames, between cells, around the sheet
_LINES = 5  # of a prompt, at most
_INK, _FAINT, _GOOD, _BAD, _RULE = "#1b1b1f", "#6e6e78", "#137a43", "#b3261e", "#e3e3e8"


class Fonts:
  """One font in the sheet's sizes."""

  def __init__(self, path: str):
    self.title = ImageFont.truetype(path, 15)
    self.head = ImageFont.truetype(path, 12)
    self.small = ImageFont.truetype(path, 10)


def draw(sheet: dict[str, Any]) -> Image.Image:
  """Draws the sheet that rows.json describes.

  Raises:
    video.BadVideo: a file is not a complete video.
  """
  fonts = Fonts(sheet["font"])
  rows = [
    [_strip(cell["video"]) if cell["video"] else None for cell in row["cells"]]
    for row in sheet["rows"]
  ]
  strips = [strip for row in rows for strip in row if strip is not None]
  width = max((strip.width for strip in strips), default=3 * HEIGHT)
  each = width + _SPACE
  texts = [
    [_wrapped(cell["prompt"], fonts.small, width) for cell in row["cells"]]
    for row in sheet["rows"]
  ]
  line = 14
  tall = [44 + HEIGHT + 26 + line * max(map(len, row), default=0) + 16 for row in texts]
  picture = Image.new(
    "RGB",
    (
      2 * _MARGIN + each * len(sheet["columns"]) - _SPACE,
      2 * _MARGIN + 20 + sum(tall),
    ),
    "white",
  )
  pen = ImageDraw.Draw(picture)
  for k, name in enumerate(sheet["columns"]):
    pen.text((_MARGIN + k * each, _MARGIN - 8), name, _FAINT, fonts.head)
  top = _MARGIN + 20
  for row, strips_of_row, lines, height in zip(
    sheet["rows"], rows, texts, tall, strict=True
  ):
    pen.line((_MARGIN, top, picture.width - _MARGIN, top), _RULE)
    _title(pen, row, top + 14, picture.width - 2 * _MARGIN, fonts)
    best = max(cell["reward"] for cell in row["cells"])
    for k, (cell, strip) in enumerate(zip(row["cells"], strips_of_row, strict=True)):
      left, below = _MARGIN + k * each, top + 44
      if strip is not None:
        picture.paste(strip, (left, below))
      below += HEIGHT + 6
      _reward(pen, cell, (left, below), best, fonts)
      for number, text in enumerate(lines[k]):
        pen.text((left, below + 20 + number * line), text, _FAINT, fonts.small)
    top += height
  return picture


def _strip(path: str) -> Image.Image:
  """The first, the middle and the last frame, side by side."""
  frames, _ = video.read(path)
  chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
  tall, wide = frames.shape[1:3]
  size = (round(wide * HEIGHT / tall), HEIGHT)
  # Small clips keep sharp pixels; large ones are reduced smoothly.
  small = tall <= HEIGHT
  resampling = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
  strip = Image.new("RGB", (3 * size[0] + 2 * _GAP, HEIGHT), "white")
  for k, frame in enumerate(chosen):
    image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, resampling)
    strip.paste(image, (k * (size[0] + _GAP), 0))
  return strip


def _title(
  pen: ImageDraw.ImageDraw, row: dict[str, Any], top: int, width: int, fonts: Fonts
) -> None:
  note = f"  {row['note']}" if row["note"] else ""
  room = width - int(fonts.head.getlength(note))
  title = _wrapped(f"“{row['title']}”", fonts.title, room, 1)[0]
  pen.text((_MARGIN, top), title, _INK, fonts.title)
  across = _MARGIN + int(fonts.title.getlength(title))
  pen.text((across, top + 3), note, _BAD, fonts.head)


def _reward(
  pen: ImageDraw.ImageDraw,
  cell: dict[str, Any],
  place: tuple[int, int],
  best: float,
  fonts: Fonts,
) -> None:
  left, top = place
  label = f"reward {cell['reward']:.2f}" if cell["video"] else "no video"
  color = _GOOD if cell["video"] and cell["reward"] == best else _INK
  pen.text((left, top), label, color, fonts.head)
  across = left + int(fonts.head.getlength(label)) + 10
  pen.text((across, top), cell["note"], _BAD, fonts.head)


def _wrapped(text: str, font: Any, width: int, most: int = _LINES) -> list[str]:
  """At most `most` lines no wider than `width` pixels; a cut text ends in "…"."""
  lines, line = [], ""
  for word in " ".join(text.split()).split(" "):
    longer = f"{line} {word}".strip()
    if line and font.getlength(longer) > width:
      lines.append(line)
      line = word
    else:
      line = longer
  lines.append(line)
  if len(lines) > most:
    lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
  return [_shortened(line, font, width) for line in lines]


def _shortened(line: str, font: Any, width: int) -> str:
  """The line without its last words, or letters, if it is wider than `width`."""
  if font.getlength(line) <= width:
    return line
  line = line.removesuffix(" …")
  while line and font.getlength(f"{line} …") > width:
    line = line.rpartition(" ")[0] or line[:-1]
  return f"{line} …"


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(prog="sheet", description=__doc__)
  parser.add_argument("rows", type=pathlib.Path)
  parser.add_argument("out", type=pathlib.Path)
  args = parser.parse_args(arguments)
  picture = draw(json.loads(args.rows.read_text(encoding="utf-8")))
  with contract.publish(args.out) as file:
    picture.save(file, format="PNG")
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
