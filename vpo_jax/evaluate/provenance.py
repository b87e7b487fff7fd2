"""What produced a table: commit, versions, seeds."""

import importlib.metadata
import platform
import subprocess
from typing import Any

import ml_collections
from etils import epath

_PACKAGES = ("jax", "transformers", "numpy", "scipy")


def describe(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The part `provenance` of results.json.

  Args:
    config: of the stage evaluate.

  Returns: the commit of the code ("" outside a checkout), whether files differ from it,
    versions, and the seeds of sampling and of the bootstrap.
  """
  return {
    "commit": _git("rev-parse", "HEAD"),
    "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    "seeds": {"sample": int(config.sample.seed), "bootstrap": int(config.compare.seed)},
  }


def _git(*arguments: str) -> str:
  folder = str(epath.Path(__file__).parent)
  command = ["git", "-C", folder, *arguments]
  try:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
  except FileNotFoundError:
    return ""
  return ran.stdout.strip() if ran.returncode == 0 else ""
