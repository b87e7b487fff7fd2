"""Stage merge_targets: rows for several video models, to train one policy on all.

The rows of a target have its notes in their instruction, so the policy learns to write
for the target that it is given.
"""

from vpo_jax import files, json_input, stages, templates
from vpo_jax.decoder import source

_PARTS = ("train", "heldout")


def run(work: stages.Work) -> stages.Counts:
  """Writes train.json, heldout.json, and instruction.txt with the place for notes.

  Raises:
    UserError: an input cannot be read.
  """
  counts: stages.Counts = {}
  for part in _PARTS:
    rows = []
    for folder in work.config.folders:
      rows += json_input.value(work.inputs[_key(part, folder)])
    files.write_json(work.folder / f"{part}.json", rows)
    counts[part] = len(rows)
  instruction = templates.of_model(work.inputs["model"])
  files.write_text(work.folder / templates.INSTRUCTION, instruction)
  return counts


def _key(part: str, folder: str) -> str:
  return f"{part} of {folder}"


def _inputs(config: stages.Config) -> stages.Inputs:
  rows = [
    stages.Input(_key(part, folder), f"{folder}/{part}.json")
    for part in _PARTS
    for folder in config.folders
  ]
  return (*rows, stages.Input("model", resolve=source.resolve))


STAGE = stages.Stage(name="merge_targets", run=run, inputs=_inputs, cheap=True)
