"""VBench's prompts are read from its own files, and nothing is lost or shifted."""

import json

import pytest

from tests.evaluate.vbench import wheel
from vpo_jax import errors
from vpo_jax.evaluate.vbench import prompts

# In two dimensions, in two rows of VBench's file.
TWICE = "The bund Shanghai, oil painting"


@pytest.fixture
def checkout(tmp_path):
  """A clone of VBench, with long prompts that say which line they are."""
  rows = json.loads(wheel.INFO.read_text())
  (tmp_path / "vbench").mkdir()
  (tmp_path / "vbench" / "VBench_full_info.json").write_text(json.dumps(rows))
  augmented = tmp_path / "prompts" / "augmented_prompts"
  folder = augmented / "gpt_enhanced_prompts" / "prompts_per_dimension_longer"
  folder.mkdir(parents=True)
  for name in ("scene", "human_action", "appearance_style", "overall_consistency"):
    short = [row["prompt_en"] for row in rows if name in row["dimension"]]
    lines = [f"{name} {i}: {text}" for i, text in enumerate(short)]
    (folder / f"{name}_longer.txt").write_text("\n".join(lines))
  lines = [f"{i}: {row['prompt_en']}" for i, row in enumerate(rows)]
  (augmented / "hunyuan_all_dimension.txt").write_text("\n".join(lines))
  wan = augmented / "Wan2.1-T2V-1.3B" / "all_dimension_aug_wanx_seed42.txt"
  wan.parent.mkdir()
  wan.write_text("\n".join(lines) + "\n")
  return tmp_path


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


@pytest.mark.parametrize(
  ("dimension", "file"),
  [
    ("scene", "scene"),
    ("background_consistency", "scene"),
    ("human_action", "human_action"),
    ("imaging_quality", "overall_consistency"),
  ],
)
def test_a_long_prompt_belongs_to_the_short_one_of_its_line(checkout, dimension, file):
  long = prompts.longer(checkout, dimension)
  assert len(long) == prompts.COUNTS[dimension]
  for number, (short, text) in enumerate(long.items()):
    assert text == f"{file} {number}: {short}"


@pytest.mark.parametrize("source", ["hunyuan", "wan"])
def test_files_of_all_prompts_are_split_by_dimension(checkout, source):
  texts = [row["prompt_en"] for row in json.loads(wheel.INFO.read_text())]
  for dimension in ("appearance_style", "overall_consistency"):
    long = prompts.longer(checkout, dimension, source)
    assert len(long) == prompts.COUNTS[dimension]
    for short, text in long.items():
      number, _, rest = text.partition(": ")
      assert (rest, texts[int(number)]) == (short, short)
  one = prompts.longer(checkout, "appearance_style", source)[TWICE]
  assert one != prompts.longer(checkout, "overall_consistency", source)[TWICE]


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    (lambda text: text.rpartition("\n")[0], "85 lines for 86 prompts"),
    (lambda text: text + "\nmore", "87 lines for 86 prompts"),
    (lambda text: "\n" + text, "87 lines"),
    (lambda text: text.replace("scene 3: ", "\n", 1), "87 lines"),
    (lambda text: "\n" + text.partition("\n")[2], ":1: the line is empty"),
  ],
)
def test_shifted_long_prompts_are_refused(checkout, change, reason):
  (path,) = checkout.rglob("scene_longer.txt")
  path.write_text(change(path.read_text()))
  with pytest.raises(errors.UserError, match=reason):
    prompts.longer(checkout, "scene")


def test_what_is_missing_is_named(checkout, tmp_path):
  with pytest.raises(errors.UserError, match=r"color_longer.txt: no such file"):
    prompts.longer(checkout, "color")
  with pytest.raises(errors.UserError, match=r"'gpt5': must be gpt, hunyuan, wan"):
    prompts.longer(checkout, "scene", "gpt5")
  with pytest.raises(errors.UserError, match="no VBench checkout"):
    prompts.longer(tmp_path / "nothing", "scene")
