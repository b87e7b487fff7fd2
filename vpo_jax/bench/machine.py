"""Resource usage of the process."""

import pathlib
import resource


def peak_rss_bytes() -> int:
  """Peak resident memory of this process, in bytes.

  On Linux `ru_maxrss` is inherited from the parent process, so VmHWM is read instead.
  """
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if "VmHWM" in lines:
      return int(lines["VmHWM"].split()[0]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
