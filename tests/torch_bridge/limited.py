"""The diffusers renderer in a process that may take little more memory once loaded."""

import os
import pathlib
import resource

from torch_bridge.renderers import diffusers


def make(spec):
  made = diffusers.make(spec)
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  more = int(os.environ["LIMITED_MB"]) << 20
  most = pages * resource.getpagesize() + more
  resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
  return made
