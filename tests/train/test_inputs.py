"""Held-out rows and the instruction of the rows, which a training run may lack."""

import pytest

from tests.train import runs
from vpo_jax import errors, stages
from vpo_jax.train import sft

TEMPLATE = "Rewrite this query as a prompt. Query: {query} Prompt:"  # of the rows


@pytest.mark.parametrize(("kind", "empty"), [("sft", True), ("dpo", False)])
def test_without_held_out_rows_nothing_is_evaluated(
  tmp_path, make_config, rows, unbroken, kind, empty
):
  """The training is the same, and the last checkpoints are kept."""
  config = make_config(kind, keep_checkpoints=1)
  config.train = config.heldout = ""
  source = tmp_path / {"sft": "build_sft", "dpo": "merge_pairs"}[kind]
  source.mkdir()
  (source / "train.json").write_text(rows[kind, "train"].read_text())
  if empty:
    (source / "heldout.json").write_text("[]")
  counts = stages.run(runs.STAGES[kind].STAGE, config, tmp_path)
  assert counts["heldout"] == 0
  assert counts["loss_before"] is counts["loss_after"] is None
  assert not runs.metrics(tmp_path, kind, "eval/loss")
  assert runs.metrics(tmp_path, kind) == runs.metrics(unbroken(kind, make_config), kind)
  assert (
    runs.largest_gap(
      runs.trained(tmp_path, kind), runs.trained(unbroken(kind, make_config), kind)
    )
    == 0
  )
  kept = (tmp_path / f"train_{kind}" / "checkpoints").iterdir()
  assert [path.name for path in kept] == ["6"]


def test_a_held_out_file_that_is_named_must_exist(tmp_path, make_config):
  config = make_config("sft", heldout=str(tmp_path / "none.json"))
  with pytest.raises(errors.UserError, match=r"heldout=.*none\.json: no such file"):
    stages.run(sft.STAGE, config, tmp_path)


def stored_instruction(folder):
  return (folder / "instruction.txt").read_text()


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_rows_instruction_is_stored_with_the_model(
  tmp_path, make_config, rows, kind
):
  """From the file beside the rows; one that does not fit the rows is refused."""
  beside, mine = tmp_path / "rows", tmp_path / "mine.txt"
  beside.mkdir()
  (beside / "instruction.txt").write_text(TEMPLATE)
  (beside / "train.json").write_text(rows[kind, "train"].read_text())
  config = make_config(kind, epochs=1)
  config.train = str(beside / "train.json")
  stages.run(runs.STAGES[kind].STAGE, config, tmp_path)
  assert stored_instruction(tmp_path / f"train_{kind}" / "model") == TEMPLATE
  mine.write_text("Another: {query}")
  config.instruction = str(mine)
  with pytest.raises(errors.UserError, match=r"matches the template .*mine\.txt"):
    stages.run(runs.STAGES[kind].STAGE, config, tmp_path / "other")


def test_the_instruction_may_be_named_by_the_config(tmp_path, make_config):
  mine = tmp_path / "mine.txt"
  mine.write_text(TEMPLATE)
  config = make_config("sft", epochs=1, instruction=str(mine))
  config.lora.rank = 2
  stages.run(sft.STAGE, config, tmp_path)
  assert stored_instruction(tmp_path / "train_sft" / "model") == TEMPLATE
  mine.write_text(TEMPLATE + " ")
  with pytest.raises(errors.UserError, match=r"its input instruction .* has changed"):
    stages.run(sft.STAGE, config, tmp_path)
