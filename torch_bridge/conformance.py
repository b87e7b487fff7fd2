"""Checks a renderer or a scorer against the contract, with the real worker.

    python -m torch_bridge.conformance --renderer=my_package.my_renderer --model=DIR \\
      --preset=mine.json
    python -m torch_bridge.conformance --scorer=my_package.my_scorer --questions=qa.json

Renders two short prompts, or scores two synthetic videos, in a temporary folder. Prints
one line per rule; the exit code is 1 if a rule is broken.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from torch_bridge import contract, shards

_PROMPTS = ("a red ball rolls to the right", 'quotes " and {braces}\nand two lines')
_MAX_DIFFERENCE = 4  # of 255, between a video rendered alone and in a batch


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--renderer", help="a name, or a dotted module name")
  parser.add_argument("--scorer", help="a name, or a dotted module name")
  parser.add_argument("--model", default="")
  parser.add_argument("--preset", default="", help="name or JSON file, for a renderer")
  parser.add_argument("--settings", default="{}", help="JSON; override the preset")
  parser.add_argument("--options", default="{}", help="JSON")
  parser.add_argument("--questions", default="")
  parser.add_argument("--weights", default="")
  args = parser.parse_args(arguments)
  if bool(args.renderer) == bool(args.scorer):
    parser.error("name either --renderer or --scorer")
  if args.renderer and not args.preset and args.settings == "{}":
    parser.error("a renderer needs --preset, or --settings with num_frames and fps")
  broken = 0
  with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
    check = _renderer if args.renderer else _scorer
    for rule, fault in check(args, pathlib.Path(folder)):
      print(f"{'BROKEN' if fault else 'ok    '} {rule}{': ' + fault if fault else ''}")
      broken += bool(fault)
  return 1 if broken else 0


def _renderer(
  args: argparse.Namespace, root: pathlib.Path
) -> Iterator[tuple[str, str]]:
  """Yields each rule with the fault, which is "" if the rule is kept."""
  preset = contract.preset(args.preset) if args.preset else {}
  settings = preset | json.loads(args.settings)
  settings.setdefault("encoding", {"codec": "libx264", "crf": 17})
  settings.pop("source", "")
  model = settings.pop("model", "")
  model = args.model or model
  rows = [contract.render_request(p, model, settings, 0) for p in _PROMPTS]
  spec = {
    "name": args.renderer,
    "model": model,
    "settings": settings,
    "options": json.loads(args.options),
  }
  frames = {}
  for batch in (1, 2):
    folder = root / f"batch{batch}"
    job = {"task": "render", "renderer": spec, "batch": batch}
    code, line = _work(folder, job, rows)
    yield f"a worker succeeds with batches of {batch}", line if code else ""
    store = contract.Store(folder / "store")
    found = [store.find_video(row.id) for row in rows]
    for row, one in zip(rows, found, strict=True):
      failure = shards.Queue(folder).failure(row.id)
      reason = failure.reason if failure else "nothing was published"
      yield f"{row.prompt[:16]!r} gives a valid video", "" if one else reason
    frames[batch] = [_frames(store, one) for one in found if one]
  if len(frames[1]) == len(frames[2]) == len(rows):
    yield from _compare(frames[1], frames[2])


def _compare(alone: list[Any], together: list[Any]) -> Iterator[tuple[str, str]]:
  import numpy as np

  largest = max(
    float(np.abs(one.astype(int) - two).mean())
    for one, two in zip(alone, together, strict=True)
  )
  fault = f"they differ by {largest:.1f} of 255" if largest > _MAX_DIFFERENCE else ""
  yield "a video does not depend on the others of its batch", fault
  same = alone[0].shape == alone[1].shape and bool((alone[0] == alone[1]).all())
  yield "another prompt gives another video", "they are equal" if same else ""


def _scorer(args: argparse.Namespace, root: pathlib.Path) -> Iterator[tuple[str, str]]:
  """Yields each rule with the fault, which is "" if the rule is kept."""
  store = contract.Store(root / "store")
  rows = [
    contract.score_request(_synthetic(store, kind), args.scorer, _PROMPTS[1], "query")
    for kind in ("moving", "grey")
  ]
  spec = {
    "name": args.scorer,
    "model": args.model,
    "questions": args.questions,
    "weights": args.weights,
    "options": json.loads(args.options),
  }
  code, line = _work(root, {"task": "score", "scorer": spec}, rows)
  yield "a worker succeeds", line if code else ""
  found = [store.find_answers(row.id) for row in rows]
  for row, one in zip(rows, found, strict=True):
    failure = shards.Queue(root).failure(row.id)
    reason = failure.reason if failure else "nothing was published"
    yield f"video {row.video_id} is scored", "" if one else reason
    if one:
      bad = [p for p in one.p_yes if not 0 <= p <= 1]
      yield "probabilities are between 0 and 1", f"one is {bad[0]}" if bad else ""
      fault = "" if len(one.yes) == len(one.p_yes) else "the numbers differ"
      yield "there are as many answers as probabilities", fault
      fault = "" if one.yes or one.scalars else "there are neither"
      yield "there are answers or named rewards", fault
  one, two = found
  if one and two:
    same = one.p_yes == two.p_yes and one.scalars == two.scalars
    fault = "a moving and a grey video get the same result" if same else ""
    yield "the result depends on the frames", fault


def _work(folder: pathlib.Path, job: dict, rows: list) -> tuple[int, str]:
  """Runs one worker; returns its exit code and the last line of its output."""
  queue = shards.Queue(folder)
  queue.refill(rows, len(rows))
  common = {"version": contract.VERSION, "store": str(folder / "store")}
  (folder / "job.json").write_text(json.dumps(common | job), encoding="utf-8")
  command = [sys.executable, "-m", "torch_bridge.worker", f"--job={folder}/job.json"]
  ended = subprocess.run(command, capture_output=True, text=True, check=False)
  lines = (ended.stderr or ended.stdout).strip().splitlines()
  return ended.returncode, lines[-1] if lines else f"exit code {ended.returncode}"


def _synthetic(store: contract.Store, kind: str) -> str:
  """Publishes a video, "moving" or "grey"; returns its id."""
  import numpy as np

  from torch_bridge import video

  scene = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
  if kind == "grey":
    scene = 110 + scene // 16
  step = 3 if kind == "moving" else 0
  frames = np.stack([np.roll(scene, i * step, axis=1) for i in range(17)])
  path = store.video(kind)
  path.parent.mkdir(parents=True, exist_ok=True)
  video.write(path, frames.astype(np.uint8), 8, {"codec": "libx264", "crf": 17})
  row = contract.RenderedVideo(
    id=kind,
    path=str(path.relative_to(store.root)),
    sha256=contract.sha256(path),
    frames=17,
    fps=8,
    width=64,
    height=64,
    seconds=2.125,
    lost_tokens=0,
    settings={},
    made_by={"renderer": "conformance"},
    work_seconds=0.0,
  )
  contract.publish_row(store.rendered(kind), row)
  return kind


def _frames(store: contract.Store, row: contract.RenderedVideo) -> Any:
  from torch_bridge import video

  return video.read(store.root / row.path)[0]


if __name__ == "__main__":
  raise SystemExit(main())
