"""Runs Open-Sora 1.2's inference with a seed for each prompt.

    python .../open_sora.py SEEDS scripts/inference.py CONFIG --prompt-path FILE ...

Open-Sora seeds its noise once, so the noise of a prompt depends on its place in the
file. Here each prompt has a seed of its own, and the model is loaded once for all of
them. Run it in the folder and the environment of Open-Sora's checkout; SEEDS is a file
with one seed per line, in the order of the prompts.

A prompt is text: braces in it are not read as options.
"""

import importlib
import pathlib
import runpy
import sys
from typing import Any


def main() -> None:
  seeds_file, script, *arguments = sys.argv[1:]
  seeds = [int(line) for line in pathlib.Path(seeds_file).read_text().split()]
  # As for a script that is run directly: nothing in this folder may be imported.
  sys.argv = [script, *arguments, "--batch-size", "1"]
  sys.path[0] = str(pathlib.Path(script).resolve().parent)
  _seed_each_prompt(seeds)
  runpy.run_path(script, run_name="__main__")


def _seed_each_prompt(seeds: list[int]) -> None:
  """Replaces the function that Open-Sora calls once per batch, before the noise."""
  torch: Any = importlib.import_module("torch")
  inference: Any = importlib.import_module("opensora.utils.inference_utils")
  left = iter(seeds)

  def begin_batch(prompts: Any, references: Any, masks: Any) -> tuple[Any, Any, Any]:
    (_,) = prompts
    torch.manual_seed(next(left))
    return prompts, references, masks

  inference.extract_json_from_prompts = begin_batch


if __name__ == "__main__":
  main()
