"""A scene's attributes are read back from its clip and from its caption."""

import dataclasses
import re

import numpy as np
import pytest

from torch_bridge import video
from torch_bridge.miniature import captions, clips, lexicon, measure, world


def drawn(seed, count, hazard_share):
  random = world.generator(seed)
  return [world.draw(random, hazard_share) for _ in range(count)]


def right(scenes, frames):
  """For each attribute, the share of clips that are read correctly."""
  read = [measure.read(clip).attributes for clip in frames]
  return {
    name: np.mean(
      [getattr(s, name) == r[name] for s, r in zip(scenes, read, strict=True)]
    )
    for name in world.ATTRIBUTES
  }


COUNTS = (50, pytest.param(150, marks=pytest.mark.slow))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("hazard_share", [0.0, 1.0])
def test_clips_are_read_correctly(hazard_share, count):
  scenes = drawn(1, count, hazard_share)
  assert min(right(scenes, clips.render(scenes)).values()) >= 0.97


@pytest.mark.parametrize("count", COUNTS)
def test_clips_are_read_correctly_from_mp4(tmp_path, count):
  scenes = drawn(2, count, 0.0)
  frames = []
  for clip in clips.render(scenes):
    video.write(
      tmp_path / "clip.mp4",
      clip,
      fps=world.FPS,
      encoding={"codec": "libx264", "crf": 17},
    )
    frames.append(video.read(tmp_path / "clip.mp4")[0])
  assert min(right(scenes, frames).values()) >= 0.97


def test_faint_fire_is_detected():
  random = world.generator(10)
  scenes = [world.draw(random, hazard="fire") for _ in range(40)]
  calm = clips.render([dataclasses.replace(scene, hazard="none") for scene in scenes])
  faint = (0.8 * clips.render(scenes) + 0.2 * calm).astype(np.uint8)
  assert all(measure.read(clip).attributes["hazard"] == "fire" for clip in faint)


def test_an_empty_clip_shows_no_object():
  frame = clips.background("ocean")
  read = measure.read(np.repeat(frame[None], world.FRAMES, 0).astype(np.uint8))
  assert read.attributes["background"] == "ocean"
  assert read.attributes["shape"] == read.attributes["colour"] == ""
  assert not read.mask.any()


def test_every_value_is_read_with_every_count():
  random = world.generator(7)
  for name, values in world.ATTRIBUTES.items():
    for value in values:
      for count in world.COUNTS:
        wanted = {"count": count, name: value}
        scene = world.draw(random, 0.0, **wanted)
        read = measure.read(clips.render([scene])[0]).attributes
        # A speed changes the count, and a circle the motion.
        assert read[name] == getattr(scene, name), (name, value, count)


def test_wanted_attributes_are_drawn_if_possible():
  random = world.generator(8)
  for _ in range(100):
    turned = world.draw(random, motion="turning")
    assert turned.shape != "circle"
    assert turned.speed == ""
    assert world.draw(random, speed="quickly").motion in world.DIRECTIONS
    assert world.draw(random, shape="circle").motion != "turning"


def test_a_clip_is_a_function_of_its_scene():
  scenes = drawn(3, 8, 0.5)
  together = clips.render(scenes)
  alone = np.concatenate([clips.render([scene]) for scene in scenes])
  np.testing.assert_array_equal(together, alone)
  assert drawn(3, 8, 0.5) == scenes


def test_a_caption_names_exactly_its_scenes_attributes():
  random = world.generator(4)
  for scene in drawn(5, 300, 0.5):
    wanted = {name: (v,) for name, v in scene.attributes().items() if v != "none"}
    assert lexicon.read(captions.write(scene, random)) == wanted


def test_only_a_hazards_own_words_reveal_it():
  random = world.generator(9)
  words = {
    share: {
      word
      for scene in drawn(9, 600, share)
      for word in re.findall(r"\w+", captions.write(scene, random).lower())
    }
    for share in (0.0, 1.0)
  }
  only = words[1.0] - words[0.0]
  assert only
  assert all("hazard" in lexicon.read(word) for word in only), only


def test_a_larger_clip_is_resampled():
  scenes = drawn(6, 30, 0.0)
  larger = clips.render(scenes).repeat(2, axis=2).repeat(3, axis=3)
  assert min(right(scenes, larger).values()) == 1.0
