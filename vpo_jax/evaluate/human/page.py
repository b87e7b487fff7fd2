"""The raters' page: one HTML file that works from a folder, without a server."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from vpo_jax import files
from vpo_jax.evaluate.human import questions

VIDEOS = "videos"  # the folder next to the page

_TEMPLATE = pathlib.Path(__file__).with_name("page.html")
_PLACE = '"the study"'  # in the template, where the data go


@dataclasses.dataclass(frozen=True)
class Item:
  """What a rater judges at once.

  Attributes:
    videos: names of files in the folder `VIDEOS`: left and right, or one.
  """

  id: str
  query: str
  videos: tuple[str, ...]


def write(
  path: pathlib.Path, study: str, kind: questions.Kind, items: Sequence[Item]
) -> None:
  """Writes the page with the study in it.

  Args:
    study: the study's id, which the answers name.
  """
  data = {
    "study": study,
    "kind": kind,
    "videos": VIDEOS,
    "questions": [dataclasses.asdict(one) for one in questions.QUESTIONS[kind]],
    "items": [dataclasses.asdict(one) for one in items],
  }
  template = _TEMPLATE.read_text(encoding="utf-8")
  files.write_text(path, template.replace(_PLACE, embedded(data), 1))


def embedded(data: object) -> str:
  """JSON that can stand in a script element, whatever its strings contain.

  "<" would let a string end the element, and U+2028 is no whitespace in old browsers;
  both are escaped.
  """
  return json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
