"""Where VBench is installed, asked of its interpreter."""

import dataclasses
import json
import os
import pathlib
import subprocess
from typing import Any

import ml_collections

from torch_bridge import contract
from vpo_jax import errors, files
from vpo_jax.evaluate.vbench import prompts
from vpo_jax.runtime import allocator

# Runs in VBench's interpreter.
PROGRAM = pathlib.Path(contract.__file__).parent / "programs" / "vbench_dimension.py"
MODES = ("standard", "long")


@dataclasses.dataclass(frozen=True)
class Installation:
  """VBench, and how it is run.

  Attributes:
    python: its interpreter.
    checkout: a clone whose code is used; "" is the installed package.
    folder: of the package `vbench` that is used.
    version: of the installed package; "" if only the checkout is there.
    fingerprint: of the code of the package.
    info: VBench_full_info.json.
    mode: "standard" or "long" (VBench-Long).
    gpus: for one dimension; 0 is the CPU.
    cache_dir: the folder of its model files; "" is its default.
  """

  python: str
  checkout: str
  folder: pathlib.Path
  version: str
  fingerprint: str
  info: pathlib.Path
  mode: str
  gpus: int
  cache_dir: str

  @property
  def name(self) -> str:
    """For tables, such as "VBench 0.1.5"."""
    program = "VBench-Long" if self.mode == "long" else "VBench"
    if self.checkout or not self.version:
      return f"{program}, checkout with code {self.fingerprint}"
    return f"{program} {self.version}"


def find(config: ml_collections.ConfigDict) -> Installation:
  """The installation that a config names (configs/vbench.py, the part `vbench`).

  Raises:
    UserError: a setting is wrong, the interpreter does not exist or has no VBench, or
      the checkout is none.
  """
  _check(config)
  checkout = str(pathlib.Path(config.checkout).resolve()) if config.checkout else ""
  # A name without a separator is looked up in PATH. Links stay: they mark environments.
  python = os.path.abspath(config.python) if os.sep in config.python else config.python
  found = _ask(python, checkout)
  if found["folder"] is None:
    raise errors.UserError(
      f"vbench.python={python}: it has no VBench; install it there (Python 3.11 at"
      f" most, this is {found['python']}): {python} -m pip install vbench==0.1.5"
    )
  folder = pathlib.Path(found["folder"])
  info = pathlib.Path(config.info or folder / "VBench_full_info.json").resolve()
  if not info.is_file():
    raise errors.UserError(f"{info}: no such file; set vbench.info")
  return Installation(
    python=python,
    checkout=checkout,
    folder=folder,
    version=found["version"],
    fingerprint=files.fingerprint(folder),
    info=info,
    mode=config.mode,
    gpus=config.gpus,
    cache_dir=str(pathlib.Path(config.cache_dir).resolve()) if config.cache_dir else "",
  )


def _check(config: ml_collections.ConfigDict) -> None:
  prompts.check(config.dimensions)
  long = config.mode == "long"
  wrong = ""
  if not config.python:
    wrong = (
      "python is empty: name VBench's interpreter, such as /envs/vbench/bin/python"
    )
  elif config.mode not in MODES:
    wrong = f"mode={config.mode!r}: must be {' or '.join(MODES)}"
  elif config.gpus < 0 or (long and config.gpus != 1):
    wrong = f"gpus={config.gpus}: must be " + (
      "1, for VBench-Long" * long or "0 or more"
    )
  elif config.videos_per_prompt < 1 or (not long and config.videos_per_prompt > 5):
    wrong = f"videos_per_prompt={config.videos_per_prompt}: VBench takes 1 to 5"
  elif config.prompts_per_dimension < 0:
    wrong = f"prompts_per_dimension={config.prompts_per_dimension}: 0 is all"
  elif long and not config.checkout:
    wrong = "checkout is empty: VBench-Long's settings are only in a clone of VBench"
  if wrong:
    raise errors.UserError(f"vbench.{wrong}")
  if config.checkout:
    prompts.info_file(config.checkout)
    script = pathlib.Path(config.checkout, "vbench2_beta_long", "eval_long.py")
    if long and not script.is_file():
      raise errors.UserError(f"{script}: no such file; update the checkout of VBench")


def _ask(python: str, checkout: str) -> dict[str, Any]:
  command = [python, str(PROGRAM), "--where", f"--checkout={checkout}"]
  try:
    done = subprocess.run(
      command,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      env=allocator.user_environment(),
    )
  except OSError as error:
    raise errors.UserError(f"vbench.python={python}: {error.strerror}") from error
  try:
    return json.loads(done.stdout.splitlines()[-1])
  except (IndexError, ValueError) as error:
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines(), "no output"]
    last = next(line for line in reversed(lines) if line.strip())
    raise errors.UserError(
      f"vbench.python={python}: does not run {PROGRAM.name}: {last.strip()}"
    ) from error
