"""The diffusers renderer, with a note of every video it makes (see scripted.py)."""

import os
import pathlib

from torch_bridge.renderers import diffusers


class _Counted(diffusers.DiffusersRenderer):
  def render(self, requests, beat):
    with pathlib.Path(os.environ["SCRIPTED_CALLS"]).open("a") as file:
      file.writelines(f"{request.id}\n" for request in requests)
    return super().render(requests, beat)


def make(spec):
  return _Counted(spec["model"], spec["settings"], spec["options"])
