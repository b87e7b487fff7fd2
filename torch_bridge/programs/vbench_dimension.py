"""Runs one dimension of VBench, in VBench's own environment.

    python .../vbench_dimension.py --where
    python .../vbench_dimension.py --dimension=scene --videos=FOLDER --info=FILE
      --out=FOLDER --device=cuda

With several GPUs it is started by `python -m torch.distributed.run`. With `--samples`
it runs VBench-Long of a checkout. It needs the standard library and VBench.

VBench writes the results to the folder `--out`, in files whose names end in
`_full_info.json` and `_eval_results.json`.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import runpy
import signal
import sys
import threading
from typing import Any


def main() -> None:
  args = _arguments()
  if args.end_with_stdin:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  # Nothing in this folder may be imported; a checkout goes before an installed VBench.
  here = str(pathlib.Path(__file__).resolve().parent)
  sys.path[:] = [path for path in sys.path if path != here]
  if args.checkout:
    sys.path.insert(0, args.checkout)
  if args.where:
    print(json.dumps(_where()))
  elif args.samples:
    _run_long(args)
  else:
    _run(args)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument("--where", action="store_true", help="print where VBench is")
  parser.add_argument("--checkout", default="", help="a clone of VBench")
  parser.add_argument("--dimension", default="")
  parser.add_argument("--videos", default="", help="folder of videos")
  parser.add_argument("--info", default="", help="VBench_full_info.json")
  parser.add_argument("--out", default="", help="folder for VBench's files")
  parser.add_argument("--device", default="cuda", help="cpu or cuda")
  parser.add_argument(
    "--local", action="store_true", help="take all models from $VBENCH_CACHE_DIR"
  )
  parser.add_argument(
    "--samples", type=int, default=0, help="videos per prompt, for VBench-Long"
  )
  parser.add_argument(
    "--end_with_stdin",
    action="store_true",
    help="kill this process group when standard input ends",
  )
  return parser.parse_args()


def _where() -> dict[str, Any]:
  """VBench's folder, without importing it; None if it is not installed."""
  spec = importlib.util.find_spec("vbench")
  folders = list(spec.submodule_search_locations or ()) if spec else []
  try:
    version = importlib.metadata.version("vbench")
  except importlib.metadata.PackageNotFoundError:
    version = ""
  return {
    "folder": folders[0] if folders else None,
    "version": version,
    "python": ".".join(map(str, sys.version_info[:3])),
  }


def _run(args: argparse.Namespace) -> None:
  vbench: Any = importlib.import_module("vbench")
  torch: Any = importlib.import_module("torch")
  if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    importlib.import_module("vbench.distributed").dist_init()
  vbench.VBench(torch.device(args.device), args.info, args.out).evaluate(
    videos_path=args.videos,
    name=f"results_{args.dimension}",
    dimension_list=[args.dimension],
    local=args.local,
    mode="vbench_standard",
    imaging_quality_preprocessing_mode="longer",  # the default of VBench's evaluate.py
  )


def _run_long(args: argparse.Namespace) -> None:
  script = pathlib.Path(args.checkout, "vbench2_beta_long", "eval_long.py")
  sys.argv = [
    str(script),
    f"--videos_path={args.videos}",
    f"--dimension={args.dimension}",
    f"--full_json_dir={args.info}",
    f"--output_path={args.out}",
    "--mode=long_vbench_standard",
    "--clip_length_config=clip_length_mix.yaml",
    f"--num_of_samples_per_prompt={args.samples}",
    *(["--load_ckpt_from_local=yes"] if args.local else []),
  ]
  _list_files_first()
  runpy.run_path(str(script), run_name="__main__")


def _list_files_first() -> None:
  """Makes `os.listdir` name files before folders.

  VBench takes the videos' suffix from the first entry of their folder. VBench-Long adds
  a folder to them, and finds no clip if this is listed first.
  """
  listdir = os.listdir

  def files_first(path: Any = ".") -> Any:
    names = listdir(path)
    if isinstance(path, int):
      return names
    return sorted(names, key=lambda name: os.path.isdir(os.path.join(path, name)))

  os.listdir = files_first


def _end_with_stdin() -> None:
  """Kills the process group, such as VBench's downloads, if the parent has ended."""
  while os.read(0, 1024):
    pass
  os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
  main()
