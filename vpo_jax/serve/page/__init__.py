"""The server's web page: one HTML document that loads nothing else."""

import json
import pathlib
from typing import Any

import jinja2

from vpo_jax.sample import settings
from vpo_jax.serve import card
from vpo_jax.serve import service as services

_FOLDER = pathlib.Path(__file__).parent
_PARTS = ("style.css", "words.js", "storage.js", "version.js", "main.js")


def html(service: services.Service) -> str:
  """The page of a server, with its styles, scripts and what it says of the model."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined
  )
  parts = {
    name.partition(".")[0]: (_FOLDER / name).read_text("utf-8") for name in _PARTS
  }
  # A "<" in a string could end the script element.
  about = json.dumps(_about(service)).replace("<", "\\u003c")
  return environment.get_template("page.html").render(parts, about=about)


def _about(service: services.Service) -> dict[str, Any]:
  return {
    "note": card.read_note(service.policy.folder),
    "targets": [target.name for target in service.targets],
    "temperature": settings.Settings().temperature,
  }
