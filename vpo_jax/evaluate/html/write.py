"""Writes report.html and the files that it opens.

evaluate/report.html        the summary; opens from disk, without a network
evaluate/report/SUITE.js    a suite's queries, prompts and values (`data`)
evaluate/videos/ID.mp4      videos
"""

import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
from etils import epath

from vpo_jax import buckets, errors, files, stages
from vpo_jax.evaluate import gain_tables, levels, measures, paper, tables
from vpo_jax.evaluate.html import data, summary, videos
from vpo_jax.evaluate.human import page
from vpo_jax.evaluate.suites import base
from vpo_jax.feedback import store as stores
from vpo_jax.runtime import console

NAME = "report.html"
DATA = "report"  # folder of the suites' data
VIDEOS = "videos"

_FOLDER = pathlib.Path(__file__).parent
_PARTS = ("style.css", "queries.js", "row.js", "player.js", "view.js")


def write(
  work: stages.Work,
  results: Mapping[str, Any],
  reference: paper.Reference,
  found: Mapping[str, base.Found],
  values: Mapping[str, Sequence[measures.Measure]],
) -> epath.Path:
  """Writes the report; returns its path.

  Args:
    work: the stage's; `config.report.videos` is the number of queries per suite and
      video model whose videos are included, 0 for all.
    results: the content of results.json.
    found: what each suite found.
    values: each suite's measures.

  Raises:
    UserError: the number of videos is negative, or a bucket refuses a file.
  """
  count = check(work.config)
  made = {
    suite: data.of_suite(suite, one, values[suite], videos=count)
    for suite, one in found.items()
  }
  _empty(work.folder)
  lost = _link(work, made)
  for suite, content in made.items():
    content["missing"] = sorted(lost & _ids(content))
    publish_data(work.folder, suite, content)
  publish_page(work.folder, results, reference, made)
  if lost:
    console.say(f"evaluate: the store lacks {len(lost)} videos that the report names")
  return work.folder / NAME


def check(config: Any) -> int:
  """The number of queries with videos; raises UserError if it is negative."""
  if config.report.videos < 0:
    raise errors.UserError(
      f"config.report.videos={config.report.videos}: must be 0 (all) or more"
    )
  return config.report.videos


def how_to_open(report: epath.Path) -> str:
  """What to do to see the report; a browser cannot open it in a bucket."""
  if files.is_bucket(report):
    return (
      f"to see the report, copy {NAME}, {DATA} and {VIDEOS} from {report.parent} and"
      f" open {NAME} in a browser"
    )
  return f"open {report} in a browser"


def publish_data(folder: epath.Path, suite: str, content: Mapping[str, Any]) -> None:
  """Writes a suite's data as a script, because a page from disk cannot read JSON."""
  line = f"report.add({page.embedded(content)});\n"
  files.write_text(folder / DATA / f"{suite}.js", line)


def publish_page(
  folder: epath.Path,
  results: Mapping[str, Any],
  reference: paper.Reference,
  made: Mapping[str, Mapping[str, Any]],
) -> None:
  """Writes report.html, which opens the data of the suites in `made`."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  own = {
    name.partition(".")[0]: markupsafe.Markup((_FOLDER / name).read_text("utf-8"))
    for name in _PARTS
  }
  opened = [
    {"suite": suite, "title": one["title"], "rows": len(one["rows"])}
    for suite, one in made.items()
  ]
  places = {"suites": opened, "data": DATA, "videos": VIDEOS, "levels": levels.LEVELS}
  text = environment.get_template("page.html").render(
    own,
    places=markupsafe.Markup(page.embedded(places)),
    summary=summary.of(results, reference),
    claims=tables.claims(results),
    findings=gain_tables.findings(results),
    gains_title=gain_tables.TITLE,
    shown=tables.SHOWN,
    results=results,
  )
  files.write_text(folder / NAME, text)


def _empty(folder: epath.Path) -> None:
  """Removes the videos of an earlier report, which this one may not name."""
  for name in (DATA, VIDEOS):
    shutil.rmtree(buckets.scratch(folder / name), ignore_errors=True)


def _ids(content: Mapping[str, Any]) -> set[str]:
  return {one for model in content["models"] for one in data.video_ids(content, model)}


def _link(work: stages.Work, made: Mapping[str, Mapping[str, Any]]) -> set[str]:
  """Links all videos; returns the ids of those that are missing."""
  lost: set[str] = set()
  for model, config in work.config.video_models.items():
    wanted = [
      one
      for content in made.values()
      if model in content["models"]
      for one in data.video_ids(content, model)
    ]
    if wanted:
      store = stores.Store(config.bridge.store or work.store)
      lost |= videos.link(wanted, store, work.folder / VIDEOS)
  buckets.store_all(work.folder / VIDEOS)
  return lost
