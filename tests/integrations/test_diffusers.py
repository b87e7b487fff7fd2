"""The example with diffusers makes a video of the prompt."""

import os
import subprocess
import sys

import pytest
from PIL import Image


@pytest.mark.slow
def test_the_miniatures_pipeline_renders_the_prompt(tmp_path):
  output = tmp_path / "video.gif"
  command = [
    sys.executable,
    "integrations/diffusers_miniature.py",
    "--model=smollm2-135m-instruct",
    f"--output={output}",
    "a red ball falls",
  ]
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"PYTHONPATH": os.getcwd()},
  )
  assert done.returncode == 0, done.stderr
  with Image.open(output) as video:
    assert (video.n_frames, video.size) == (9, (256, 256))
