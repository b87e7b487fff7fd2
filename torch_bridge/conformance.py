"""Checks a renderer or a scorer against the contract, with the real worker.

    python -m torch_bridge.conformance --renderer=my_package.my_renderer --model=DIR
    python -m torch_bridge.conformance --scorer=my_package.my_scorer --questions=qa.txt

Prints one line a rule, and exits with 1 when one is broken. Two short prompts are
rendered, or two synthetic videos scored, in a temporary folder.
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


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--renderer", help="a name of ours, or your module's")
  parser.add_argument("--scorer", help="a name of ours, or your module's")
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
  preset = contract.preset(args.preset) if args.preset else {}
  settings = preset | json.loads(args.settings)
  model = args.model or settings.get("model", "")
  settings = {k: v for k, v in settings.items() if k not in ("model", "source")}
  settings.setdefault("encoding", {"codec": "libx264", "crf": 17})
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
    code, last = _work(folder, job, rows)
    yield f"a worker ends well with batches of {batch}", last if code else ""
    store = contract.Store(folder / "store")
    found = [store.find_video(row.id) for row in rows]
    for row, one in zip(rows, found, strict=True):
      failure = shards.Queue(folder).failure(row.id)
      reason = failure.reason if failure else "nothing was published"
      yield f"{row.prompt[:16]!r} gives a whole video", "" if one else reason
    frames[batch] = [_frames(store, one) for one in found if one]
  if len(frames[1]) == len(frames[2]) == len(rows):
    yield from _compare(frames[1], frames[2])


def _compare(alone: list[Any], together: list[Any]) -> Iterator[tuple[str, str]]:
  import numpy as np

  apart = [
    float(np.abs(one.astype(int) - two).mean())
    for one, two in zip(alone, together, strict=True)
  ]
  fault = f"they differ by {max(apart):.1f} of 255" if max(apart) > 4 else ""
  yield "a video does not depend on the others of its batch", fault
  same = alone[0].shape == alone[1].shape and bool((alone[0] == alone[1]).all())
  yield "another prompt gives another video", "they are equal" if same else ""


def _scorer(args: argparse.Namespace, root: pathlib.Path) -> Iterator[tuple[str, str]]:
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
  code, last = _work(root, {"task": "score", "scorer": spec}, rows)
  yield "a worker ends well", last if code else ""
  found = [store.find_answers(row.id) for row in rows]
  for row, one in zip(rows, found, strict=True):
    failure = shards.Queue(root).failure(row.id)
    reason = failure.reason if failure else "nothing was published"
    yield f"video {row.video_id} is judged", "" if one else reason
    if one:
      bad = [p for p in one.p_yes if not 0 <= p <= 1]
      yield "probabilities lie between 0 and 1", f"{bad[0]} does not" if bad else ""
      fault = "" if len(one.yes) == len(one.p_yes) else "they differ"
      yield "there are as many answers as probabilities", fault
      fault = "" if one.yes or one.scalars else "it gives neither"
      yield "there are answers or named rewards", fault
  one, two = found
  if one and two:
    same = one.p_yes == two.p_yes and one.scalars == two.scalars
    fault = "a moving scene and a grey one are judged the same" if same else ""
    yield "the scorer sees the frames", fault


def _work(folder: pathlib.Path, job: dict, rows: list) -> tuple[int, str]:
  """One worker's exit code and last line."""
  queue = shards.Queue(folder)
  queue.refill(rows, len(rows))
  common = {"version": contract.VERSION, "store": str(folder / "store")}
  (folder / "job.json").write_text(json.dumps(common | job), encoding="utf-8")
  command = [sys.executable, "-m", "torch_bridge.worker", f"--job={folder}/job.json"]
  ended = subprocess.run(command, capture_output=True, text=True, check=False)
  lines = (ended.stderr or ended.stdout).strip().splitlines()
  return ended.returncode, lines[-1] if lines else f"exit code {ended.returncode}"


def _synthetic(store: contract.Store, kind: str) -> str:
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
