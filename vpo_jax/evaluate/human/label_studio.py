"""Studies for Label Studio, and its export.

`label_studio.xml` is the labeling interface of a project and `label_studio.json` its
tasks. Questions are `Choices`, because `Pairwise` has no tie. The export to read is the
one that Label Studio calls "JSON", not "JSON-MIN".
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from vpo_jax import errors, files
from vpo_jax.evaluate.human import page, questions

TASKS, CONFIG = "label_studio.json", "label_studio.xml"


def write(
  folder: pathlib.Path,
  study: str,
  kind: questions.Kind,
  items: Sequence[page.Item],
  videos_at: str,
) -> None:
  """Writes the tasks and the labeling interface.

  Args:
    videos_at: the address of the videos, to which a video's name is appended: that of
      an HTTP server, or "/data/local-files/?d=FOLDER/" for Label Studio's local files.
  """
  files.write_json(folder / TASKS, [_task(study, item, videos_at) for item in items])
  files.write_text(folder / CONFIG, _config(kind))


def _task(study: str, item: page.Item, videos_at: str) -> dict[str, Any]:
  sides = zip((questions.LEFT, questions.RIGHT), item.videos, strict=False)
  videos = {side: videos_at + name for side, name in sides}
  return {"data": {"study": study, "item": item.id, "query": item.query, **videos}}


def _config(kind: questions.Kind) -> str:
  """The labeling interface as XML."""
  view = ElementTree.Element("View")
  add = ElementTree.SubElement
  add(view, "Header", value="Query", size="5")
  add(view, "Text", name="query", value="$query")
  row = add(view, "View", style="display: flex; gap: 1em")
  sides = (
    (questions.LEFT, "A", questions.RIGHT),
    (questions.RIGHT, "B", questions.LEFT),
  )
  for side, label, other in sides if kind == "pairs" else sides[:1]:
    column = add(row, "View", style="flex: 1")
    video = {"name": side, "value": f"${side}", "muted": "true"}
    if kind == "pairs":
      add(column, "Header", value=label, size="5")
      video["sync"] = other
    add(column, "Video", video)
  for question in questions.QUESTIONS[kind]:
    add(view, "Header", value=f"{question.text}: {question.hint}", size="5")
    choices = add(
      view,
      "Choices",
      name=question.id,
      toName=questions.LEFT,
      choice="single",
      showInline="true",
      required="true",
    )
    for choice in question.choices:
      # The alias is what the export holds.
      add(choices, "Choice", value=choice.label, alias=choice.value)
  ElementTree.indent(view)
  return ElementTree.tostring(view, encoding="unicode") + "\n"


def annotations(path: str, tasks: Any) -> Iterator[tuple[dict[str, Any], Any]]:
  """The data of each task of an export, with each of its annotations.

  Raises:
    UserError: the value is not such an export.
  """
  for number, task in enumerate(tasks, start=1):
    found = task.get("annotations") if isinstance(task, dict) else None
    if not isinstance(found, list) or not isinstance(task.get("data"), dict):
      raise errors.UserError(
        f"{path}: row {number}: not a task of Label Studio; export the project as JSON,"
        " not as JSON-MIN or CSV"
      )
    for annotation in found:
      if not isinstance(annotation, dict):
        raise errors.UserError(f"{path}: row {number}: an annotation is not an object")
      yield task["data"], annotation


def rater(annotation: dict[str, Any]) -> str:
  """The name of the person who made an annotation: an email address, or "user 3"."""
  by = annotation.get("completed_by")
  if isinstance(by, dict):
    return str(by.get("email") or f"user {by.get('id')}")
  return f"user {by}"


def choices(annotation: dict[str, Any]) -> dict[str, str]:
  """The answers of an annotation by question; unanswered questions are missing."""
  found = {}
  for region in annotation.get("result") or ():
    value = region.get("value") if isinstance(region, dict) else None
    values = value.get("choices") if isinstance(value, dict) else None
    if isinstance(values, list) and len(values) == 1:
      found[str(region.get("from_name"))] = str(values[0])
  return found
