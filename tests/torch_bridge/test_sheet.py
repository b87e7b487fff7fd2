"""A contact sheet shows each system's frames in its column and keeps its margins."""

import json
import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from torch_bridge import sheet, video

FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
PROGRAM = pathlib.Path(sheet.__file__).parent


def rows(tmp_path, colours):
  """One row with a cell per colour; each video has that colour except in a corner."""
  cells = []
  for k, colour in enumerate(colours):
    frames = np.full((5, 32, 48, 3), colour, np.uint8)
    frames[:, :8, :8] = 255 - frames[:, :8, :8]
    path = tmp_path / f"{k}.mp4"
    video.write(path, frames, 8, {"codec": "libx264", "crf": 10})
    prompt = "a very long prompt " * 30
    cells.append({"video": str(path), "reward": k, "prompt": prompt, "note": ""})
  cells.append({"video": "", "reward": 0, "prompt": "", "note": ""})
  row = {"title": "a query " * 90, "note": "safety-related", "cells": cells}
  return {"font": FONT, "columns": ["one", "two", "none"], "rows": [row]}


def test_frames_are_in_their_columns(tmp_path):
  colours = [(200, 40, 40), (40, 60, 200)]
  (tmp_path / "rows.json").write_text(json.dumps(rows(tmp_path, colours)))
  out = tmp_path / "sheet.png"
  subprocess.run(
    [sys.executable, PROGRAM, "sheet", tmp_path / "rows.json", out], check=True
  )
  picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
  # Three frames of 3:2 and the gaps between them.
  strip = 3 * sheet.HEIGHT * 3 // 2 + 4
  for k, colour in enumerate(colours):
    near = np.abs(picture - colour).max(-1) < 20
    columns = np.flatnonzero(near.sum(0) > sheet.HEIGHT // 2)
    left = 24 + k * (strip + 22)
    assert (columns[0], columns[-1]) == pytest.approx((left, left + strip - 1), abs=2)
  # Long texts do not reach into the margin.
  assert (picture[:, -20:] == 255).all()


def test_a_line_is_never_wider_than_its_column():
  font = sheet.Fonts(FONT).small
  for text in ("word " * 200, "w" * 500, "", "one " + "w" * 400 + " two"):
    lines = sheet._wrapped(text, font, 200)
    assert 1 <= len(lines) <= 5
    assert all(font.getlength(line) <= 200 for line in lines)
