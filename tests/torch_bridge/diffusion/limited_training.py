"""Training in a process with a memory limit that is set after the model is loaded."""

import pathlib
import resource

from torch_bridge.diffusion import loop, train


def main(job, extra_mb):
  run = loop.Trainer.run

  def limited(*args):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (extra_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    return run(*args)

  loop.Trainer.run = limited
  return train.main([f"--job={job}", "--until=2"])
