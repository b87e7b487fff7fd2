"""Target profiles: what is read, what is refused, and that they fit the presets."""

import json
import pathlib

import pytest

from torch_bridge import contract
from vpo_jax import errors
from vpo_jax.promises import targets


def test_every_preset_has_a_profile_with_its_limit_and_tokenizer():
  presets = json.loads(
    pathlib.Path(contract.__file__).with_name("presets.json").read_text()
  )
  for name, preset in presets.items():
    profile = json.loads((targets.FOLDER / f"{name}.json").read_text())
    assert profile["tokens"] == preset["text_tokens"], name
    assert profile.get("suffix", "") == preset.get("prompt_suffix", ""), name
    if preset["model"]:
      assert profile["tokenizer"] == f"{preset['model']}/tokenizer", name
  assert set(targets.names()) == {*presets, "miniature"}


def test_tokens_are_counted_as_the_pipeline_does(tmp_path):
  target = targets.load("miniature")
  assert target.count("a red ball falls") == 5  # with the end token
  path = tmp_path / "mine.json"
  tokenizer = pathlib.Path("torch_bridge/miniature/model/tokenizer").absolute()
  profile = {"tokenizer": str(tokenizer), "tokens": 6, "suffix": " red red"}
  path.write_text(json.dumps(profile))
  mine = targets.load(str(path))
  assert mine.name == "mine"
  assert mine.count("a ball") == 5
  assert mine.reads("a ball falls")
  assert not mine.reads("a red ball falls")


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"tokens": 5}, "tokenizer: Field required"),
    ({"tokenizer": "a/b", "tokens": 0}, "tokens: Input should be greater"),
    ({"tokenizer": "a/b", "tokens": "5"}, "tokens: Input should be a valid integer"),
    ({"tokenizer": "a/b", "tokens": 5, "note": ""}, "note: Unexpected keyword"),
    ({"tokenizer": "no/such", "tokens": 5}, "tokenizer 'no/such': neither"),
    ([], "Input should be"),
  ],
)
def test_a_faulty_profile_is_one_line(tmp_path, content, message):
  path = tmp_path / "mine.json"
  path.write_text(json.dumps(content))
  with pytest.raises(errors.UserError, match=message) as raised:
    targets.load(str(path))
  assert str(path) in str(raised.value)
  assert "\n" not in str(raised.value)


def test_an_unknown_name_lists_the_profiles():
  with pytest.raises(errors.UserError, match="one of cogvideox-2b, cogvideox-5b"):
    targets.load("sora")
