"""The diffusers renderer in a process with a memory limit set after loading."""

import os
import pathlib
import resource

from torch_bridge.renderers import diffusers


def make(spec):
  made = diffusers.make(spec)
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  extra = int(os.environ["LIMITED_MB"]) << 20
  limit = pages * resource.getpagesize() + extra
  resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
  return made
