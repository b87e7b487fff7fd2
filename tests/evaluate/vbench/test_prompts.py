"""VBench's prompts are read from its own files, and nothing is lost or shifted."""

import json

import pytest

from tests.evaluate.vbench import wheel
from vpo_jax import errors
from vpo_jax.evaluate.vbench import prompts

# In two dimensions, in two rows of VBench's file.
TWICE = "The bund Shanghai, oil painting"


def test_the_papers_dimensions_have_358_prompts():
  found = prompts.read(wheel.INFO)
  assert len(found) == len({prompt.text for prompt in found}) == 358
  counts = {
    name: sum(name in prompt.dimensions for prompt in found) for name in prompts.PAPER
  }
  assert list(counts.values()) == [100, 86, 82, 90]
  alley = next(prompt for prompt in found if prompt.text == "alley")
  assert alley.dimensions == ("scene",)
  assert alley.auxiliary_info["scene"]["scene"]["scene"] == "alley"


def test_a_prompt_of_several_dimensions_is_rendered_once():
  found = prompts.read(wheel.INFO, tuple(prompts.COUNTS))
  assert len(json.loads(wheel.INFO.read_text())) == 946
  assert len(found) == len({prompt.text for prompt in found}) == 944
  (twice,) = (prompt for prompt in found if prompt.text == TWICE)
  assert set(twice.dimensions) == {
    *("appearance_style", "overall_consistency", "aesthetic_quality"),
    "imaging_quality",
  }
  style = {"appearance_style": {"appearance_style": "oil painting"}}
  assert twice.auxiliary_info == style


def test_a_trial_has_the_first_prompts_of_each_dimension():
  found = prompts.read(wheel.INFO, ("human_action", "scene"), limit=2)
  whole = prompts.read(wheel.INFO, ("human_action", "scene"))
  first = [one for one in whole if "scene" in one.dimensions][:2]
  first += [one for one in whole if "human_action" in one.dimensions][:2]
  assert sorted(map(repr, found)) == sorted(map(repr, first))


@pytest.mark.parametrize(
  ("rows", "reason"),
  [
    (
      lambda rows: [r for r in rows if r["prompt_en"] != "alley"],
      "85 prompts of scene",
    ),
    (lambda rows: {"prompts": rows}, "not VBench's list"),
    (lambda rows: [*rows, {"prompt_en": "x"}], "946.dimension"),
  ],
)
def test_a_file_that_is_not_vbenchs_is_refused(tmp_path, rows, reason):
  path = tmp_path / "info.json"
  path.write_text(json.dumps(rows(json.loads(wheel.INFO.read_text()))))
  with pytest.raises(errors.UserError, match=reason):
    prompts.read(path)


@pytest.mark.parametrize(
  ("names", "reason"),
  [
    (("scenes",), "'scenes' is not one of .*scene"),
    (("scene", "scene"), "scene is named twice"),
    ((), "is empty"),
  ],
)
def test_dimensions_are_vbenchs(names, reason):
  with pytest.raises(errors.UserError, match=reason):
    prompts.read(wheel.INFO, names)
