"""The small CogVideoX: an exact VAE, distinct words, and training that continues."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from torch_bridge.miniature import captions, check, clips, model, text, train, world

SMALL = model.Size(text_width=64, text_layers=1, width=64, heads=2, layers=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


def test_the_vae_is_the_identity():
  vae = model.identity_vae()
  pixels = torch.rand(2, 3, world.FRAMES, world.SIDE, world.SIDE) * 2 - 1
  with torch.no_grad():
    latents = vae.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(latents, pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.decode(latents).sample, pixels, atol=1e-5, rtol=0)


def test_captions_fit_the_text_encoder_with_one_token_per_word():
  pipe = model.build(0, SMALL)
  random = world.generator(0)
  for _ in range(300):
    caption = captions.write(world.draw(random, 0.5), random)
    pieces = pipe.tokenizer.tokenize(caption)
    assert len(pieces) + 1 <= model.Size().text_tokens  # one for the end token
    assert {piece.strip("▁") for piece in pieces} <= {
      *captions.vocabulary(),
      *(word.capitalize() for word in captions.vocabulary()),
      *("", ".", ","),
    }


def test_a_word_that_no_caption_has_is_one_unknown_token():
  tokenizer = model.build(0, SMALL).tokenizer
  assert tokenizer.tokenize("a peaceful mood, 海边.") == [
    *("▁a", "▁peaceful", "▁mood", ",", "▁海边", ".")
  ]
  unknown = tokenizer.unk_token_id
  ids = tokenizer("a peaceful mood").input_ids
  assert ids[1:3] == [unknown, unknown] != ids[:2]


def test_unknown_words_leave_the_caption_unchanged():
  random = world.generator(0)
  tokenizer = model.build(0, SMALL).tokenizer
  changed = 0
  for _ in range(100):
    caption = captions.write(world.draw(random), random)
    text = captions.with_unknown_words(caption, random)
    ids, plain_ids = tokenizer(text).input_ids, tokenizer(caption).input_ids
    assert [i for i in ids if i != tokenizer.unk_token_id] == plain_ids
    assert len(plain_ids) <= len(ids) <= len(plain_ids) + 12
    changed += text != caption
  assert 30 < changed < 70
  assert set(captions.with_unknown_words("", random).split()) <= {"something"}


def test_the_text_encoder_learns_every_attribute(monkeypatch):
  monkeypatch.setattr(text, "BATCH", 24)
  pipe = model.build(0, SMALL)
  losses = text.train(pipe.text_encoder, pipe.tokenizer, 56, seed=0, steps=320)
  for name, values in world.ATTRIBUTES.items():
    assert losses[name] < 0.7 * np.log(len(values))  # well below guessing


@pytest.fixture
def quick(monkeypatch):
  """Shrinks a run to a few seconds."""
  monkeypatch.setattr(model, "Size", lambda: SMALL)
  monkeypatch.setattr(train, "BATCH", 2)
  monkeypatch.setattr(text, "STEPS", 2)
  monkeypatch.setattr(check, "STEPS", 1)


def test_accuracy_counts_the_requested_values():
  wanted = {"colour": "red", "shape": "circle", "motion": "upward"}
  scene = world.draw(world.generator(1), 0.0, **wanted)
  shown = clips.render([scene, dataclasses.replace(scene, hazard="fire")])
  wanted = [{"colour": "red", "shape": "circle"}, {"colour": "blue"}]
  assert check.accuracy(wanted, shown) == {
    **dict.fromkeys(world.VISIBLE, 0.0),  # not requested
    "colour": 0.5,
    "shape": 1.0,
    "all": 0.5,
    "hazard": 0.5,
  }


def weights(run):
  return torch.cat([p.detach().flatten() for p in run.average.parameters()])


def test_an_interrupted_run_ends_with_the_same_weights(quick, tmp_path):
  unbroken = train.train(tmp_path / "unbroken", seed=0, steps=4, every=1e9)
  train.train(tmp_path / "cut", seed=0, steps=4, every=1e9, until=2)
  cut = train.train(tmp_path / "cut", seed=0, steps=4, every=1e9)
  assert torch.equal(weights(unbroken), weights(cut))
  with (tmp_path / "cut" / "checks.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [row["step"] for row in rows] == ["2", "4"]


def test_the_exported_model_renders_the_same_clips(quick, tmp_path):
  run = train.train(tmp_path, seed=0, steps=1, every=1e9)
  prompts = ["One large solid red circle resting still."]
  with train.averaged(run) as pipe:
    before = check.render(pipe, prompts, [7])
  train.export(run, tmp_path / "model")
  loaded = check.load(tmp_path / "model")
  after = check.render(loaded, prompts, [7])
  assert np.abs(before.astype(int) - after.astype(int)).max() <= 2
