"""The model directory of a video model whose transformer was trained."""

import os
import pathlib
import shutil

import huggingface_hub

from torch_bridge import contract


def make(
  folder: pathlib.Path, model: str, revision: str, transformer: pathlib.Path
) -> pathlib.Path:
  """A directory with the trained transformer; all other files are links.

  Args:
    folder: to write; nothing is done if it exists.
    model: directory or hub id of the model before training.
    revision: of a hub id; "" for the newest.
    transformer: directory of the trained weights.
  """
  if folder.exists():
    return folder
  source = pathlib.Path(model)
  if not source.is_dir():
    source = pathlib.Path(
      huggingface_hub.snapshot_download(
        model,
        revision=revision or None,
        local_files_only=True,  # the renderer has fetched it
      )
    )
  temporary = folder.with_name(f"{contract.TEMPORARY}{folder.name}")
  shutil.rmtree(temporary, ignore_errors=True)
  _link(source, temporary, "transformer")
  _link(transformer, temporary / "transformer", "")
  temporary.replace(folder)
  return folder


def _link(source: pathlib.Path, target: pathlib.Path, without: str) -> None:
  """Makes a folder with links to all files of another but one folder of it."""
  for folder, _, names in os.walk(source, followlinks=True):
    relative = pathlib.Path(folder).relative_to(source)
    if without and relative.parts[:1] == (without,):
      continue
    (target / relative).mkdir(parents=True, exist_ok=True)
    for name in names:
      (target / relative / name).symlink_to((pathlib.Path(folder) / name).resolve())
