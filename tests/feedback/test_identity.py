"""A model's identity is that of its files' content."""

import os
import shutil

import batch
import pytest

from torch_bridge import questions
from vpo_jax import errors
from vpo_jax.feedback import identity

SIZE = 5 << 20


@pytest.fixture
def model(tmp_path):
  folder = tmp_path / "model"
  (folder / "transformer").mkdir(parents=True)
  (folder / "config.json").write_text("{}")
  weights = folder / "transformer" / "weights.safetensors"
  weights.write_bytes(bytes(SIZE))
  return folder, weights


def _change(weights):
  """Changes one byte, far from the beginning."""
  with weights.open("r+b") as file:
    file.seek(SIZE - 3)
    file.write(b"x")


def test_one_byte_changes_the_identity(model, tmp_path):
  folder, weights = model
  before = identity.model(str(folder), "", tmp_path / "hashes")
  _change(weights)
  assert identity.model(str(folder), "", tmp_path / "hashes") != before
  assert weights.stat().st_size == SIZE


def test_a_file_is_read_once(model, tmp_path):
  """A changed byte under the old size and time is not seen."""
  folder, weights = model
  before = identity.model(str(folder), "", tmp_path / "hashes")
  status = weights.stat()
  _change(weights)
  os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
  assert identity.model(str(folder), "", tmp_path / "hashes") == before
  assert identity.model(str(folder), "", tmp_path / "others") != before
  (kept,) = (tmp_path / "hashes").iterdir()
  kept.write_text("[]")  # damaged: hashed again
  assert identity.model(str(folder), "", tmp_path / "hashes") != before


def test_a_copy_is_the_same_model_and_a_renamed_file_another(model, tmp_path):
  folder, _ = model
  before = identity.model(str(folder), "", tmp_path / "hashes")
  copy = shutil.copytree(folder, tmp_path / "copy")
  (copy / ".cache").mkdir()
  (copy / ".cache" / "downloaded").write_text("today")
  assert identity.model(str(copy), "", tmp_path / "hashes") == before
  (copy / "config.json").rename(copy / "config2.json")
  assert identity.model(str(copy), "", tmp_path / "hashes") != before
  assert not list(folder.rglob("*hashes*"))


def test_a_hub_model_is_its_revision(tmp_path):
  assert identity.model("org/model", "abc", tmp_path) == "org/model@abc"
  assert identity.model("org/model", "", tmp_path) == "org/model@main"


def test_the_scorers_directory_counts_too(scripted, model, tmp_path):
  config, _ = scripted
  folder, weights = model
  config.scorer.model = str(folder)

  def scorer():
    return identity.scorer(config.scorer, questions.NONE, "", tmp_path / "hashes")

  before = scorer()
  assert scorer() == before
  _change(weights)
  assert scorer() != before


def test_a_changed_model_renders_again(scripted, model, tmp_path):
  config, count = scripted
  folder, weights = model
  config.renderer.model = str(folder)
  rendered = []
  for change in (False, False, True):
    if change:
      _change(weights)
    link, _ = batch.run(config, tmp_path, "good 1")
    rendered.append(link.rendered)
  assert rendered == [1, 0, 1]
  assert count()["good 1"] == 2
  assert list((tmp_path / "store" / "hashes").iterdir())


def _lora(folder, content=b"weights"):
  folder.mkdir()
  (folder / "pytorch_lora_weights.safetensors").write_bytes(content)
  return str(folder)


def test_a_lora_and_its_scale_are_part_of_the_video_models_identity(
  scripted, model, tmp_path
):
  renderer, folder = scripted[0].renderer, str(model[0])
  renderer.name = "diffusers"

  def identified():
    return identity.video_model(renderer, folder, tmp_path / "hashes")

  plain = identified()
  assert plain == identity.model(folder, "", tmp_path / "hashes")
  renderer.lora.path = _lora(tmp_path / "one")
  first = identified()
  assert first.startswith(f"{plain}+lora:")
  renderer.lora.scale = 0.5
  halved = identified()
  renderer.lora.update(path=_lora(tmp_path / "two", b"others"), scale=1.0)
  assert len({plain, first, halved, identified()}) == 4
  renderer.lora.path = _lora(tmp_path / "copy")
  assert identified() == first


def test_a_lora_that_cannot_be_used_is_one_line(scripted, tmp_path):
  renderer = scripted[0].renderer
  renderer.lora.path = _lora(tmp_path / "one")
  with pytest.raises(errors.UserError, match="renderer scripted takes none"):
    identity.settings(renderer)
  renderer.update(name="", preset="cogvideox-2b")
  identity.settings(renderer)
  renderer.lora.path = str(tmp_path)
  with pytest.raises(errors.UserError, match="has no pytorch_lora_weights"):
    identity.settings(renderer)
