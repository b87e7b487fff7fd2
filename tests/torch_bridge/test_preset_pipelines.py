"""Every preset of diffusers renders with its real classes, at a very small size.

The presets' own scheduler, guidance, precision, offload, tiling and text limit are
used; only size, frames and steps are reduced. bfloat16 and float16 run on a CPU too.
"""

import json
import pathlib

import numpy as np
import pytest
import tiny_pipelines
import torch

from torch_bridge import contract, video
from torch_bridge.renderers import diffusers

# Mochi asks for autocast to float32, which a CPU does not need.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")

BUILD = {
  "cogvideox-2b": lambda folder: tiny_pipelines.cogvideox(folder, rotary=False),
  "cogvideox-5b": lambda folder: tiny_pipelines.cogvideox(folder, rotary=True),
  "wan-1.3b": lambda folder: tiny_pipelines.wan(folder, "2.1"),
  "wan-2.2-a14b": lambda folder: tiny_pipelines.wan(folder, "a14b"),
  "wan-2.2-5b": lambda folder: tiny_pipelines.wan(folder, "5b"),
  "ltx": tiny_pipelines.ltx,
  "hunyuanvideo": tiny_pipelines.hunyuan,
  "mochi": tiny_pipelines.mochi,
}
# Mochi's VAE cannot be made as small as the others, and takes ten times as long.
PRESETS = [
  pytest.param(name, marks=pytest.mark.slow if name == "mochi" else ())
  for name in BUILD
]
# Pipelines accept sides that are multiples of 16 or 32, and 4 n, 6 n or 8 n + 1 frames.
SIDE, FRAMES = 64, {"mochi": 7}
SCHEDULERS = {  # the model's own, unless the preset names another
  "cogvideox-2b": "CogVideoXDDIMScheduler",
  "cogvideox-5b": "CogVideoXDPMScheduler",
  "wan-1.3b": "UniPCMultistepScheduler",
  "wan-2.2-a14b": "UniPCMultistepScheduler",
  "wan-2.2-5b": "UniPCMultistepScheduler",
  "ltx": "FlowMatchEulerDiscreteScheduler",
  "hunyuanvideo": "FlowMatchEulerDiscreteScheduler",
  "mochi": "FlowMatchEulerDiscreteScheduler",
}


class Preset:
  """A preset, its tiny model, and a renderer with the preset's settings."""

  def __init__(self, name, folder):
    self.name, self.folder = name, folder
    self.settings = contract.preset(name) | {
      "height": SIDE,
      "width": SIDE,
      "num_frames": FRAMES.get(name, 9),
      "num_inference_steps": 2,
    }
    BUILD[name](folder)
    self.renderer = self.load()

  def load(self, settings=None, **options):
    spec = {"model": str(self.folder), "settings": settings or self.settings}
    return diffusers.make(spec | {"options": options})

  def frames(self, *prompts, renderer=None, **changes):
    """The frames of each prompt, in one batch; `changes` are of the settings."""
    settings = self.settings | changes
    rows = [contract.render_request(p, "m", settings, i) for i, p in enumerate(prompts)]
    clips = (renderer or self.renderer).render(rows, lambda: None)
    return [clip.frames for clip in clips]


@pytest.fixture(scope="module", params=PRESETS)
def preset(request, tmp_path_factory):
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield Preset(request.param, tmp_path_factory.mktemp(request.param))
  torch.set_num_threads(before)


@pytest.fixture
def heard(preset):
  """The keyword arguments of each call of the transformer that is called first."""
  calls = []
  hook = preset.renderer._pipe.transformer.register_forward_pre_hook(
    lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
  )
  yield calls
  hook.remove()


def test_every_preset_of_diffusers_is_here():
  path = pathlib.Path(contract.__file__).with_name("presets.json")
  presets = json.loads(path.read_text())
  assert {n for n, p in presets.items() if p["renderer"] == "diffusers"} == set(BUILD)


def test_it_renders_in_the_presets_precision(preset):
  pipe, settings = preset.renderer._pipe, preset.settings
  assert type(pipe).__name__ == settings["pipeline"]
  assert pipe.transformer.dtype == getattr(torch, settings["dtype"])
  vae_dtype = settings.get("vae_dtype", settings["dtype"])
  assert pipe.vae.dtype == getattr(torch, vae_dtype)
  for frames in preset.frames("w1 w2", "w3"):
    assert frames.shape == (settings["num_frames"], SIDE, SIDE, 3)
    assert video.check_frames(frames, settings["num_frames"]).dtype == np.uint8


def test_the_scheduler_is_the_presets(preset):
  scheduler = preset.renderer._pipe.scheduler
  assert preset.renderer.made_by["scheduler"] == SCHEDULERS[preset.name]
  for name, value in preset.settings.get("scheduler_args", {}).items():
    assert scheduler.config[name] == value
  # What the preset does not name stays the model's.
  saved = json.loads((preset.folder / "scheduler/scheduler_config.json").read_text())
  for name in {"beta_schedule", "prediction_type", "shift"} & saved.keys():
    assert scheduler.config[name] == saved[name]
  preset.frames("w1")
  first = float(scheduler.timesteps[0])
  if preset.name == "cogvideox-5b":
    assert first == 999  # trailing; with leading spacing it would be 500
  assert len(scheduler.timesteps) == 2


def test_a_batch_gives_the_videos_of_single_requests(preset):
  one, two = preset.frames("w1 w2 w3", "w4")
  (alone,) = preset.frames("w1 w2 w3")
  # Products of other shapes are rounded differently, by 2^-8 in bfloat16.
  np.testing.assert_allclose(one, alone, atol=0.02)
  assert np.abs(one - two).mean() > np.abs(one - alone).mean()


def test_the_guidance_of_the_preset_is_used(preset, heard):
  (frames,) = preset.frames("w1 w2")
  (weaker,) = preset.frames("w1 w2", guidance_scale=1.5)
  assert np.abs(frames - weaker).max() > 0
  if preset.name == "hunyuanvideo":  # embedded, in thousandths
    guidance = [float(call["guidance"]) for call in heard[::2]]
    assert guidance == pytest.approx([6000.0, 1500.0], rel=2**-8)
  if preset.name == "wan-2.2-a14b":  # the second model's, below the boundary
    call = preset.settings["call"]
    (frames,) = preset.frames("w1 w2", num_inference_steps=4)
    weaker = {"call": call | {"guidance_scale_2": 1.5}, "num_inference_steps": 4}
    assert np.abs(frames - preset.frames("w1 w2", **weaker)[0]).max() > 0


@pytest.mark.parametrize("preset", ["cogvideox-2b", "cogvideox-5b"], indirect=True)
def test_cogvideox_has_the_positions_and_guidance_of_its_size(preset, heard):
  large = preset.name == "cogvideox-5b"
  call = preset.settings["call"]
  assert call["use_dynamic_cfg"] == large
  (frames,) = preset.frames("w1 w2")
  assert (heard[0].get("image_rotary_emb") is not None) == large
  (other,) = preset.frames("w1 w2", call=call | {"use_dynamic_cfg": not large})
  assert np.abs(frames - other).max() > 0


def test_the_text_limit_is_counted_in_the_pipelines_tokens(preset):
  """Exactly the words that are counted as lost change no pixel."""
  # In float32, because one word of hundreds may vanish in the rounding of bfloat16.
  exact = {"dtype": "float32", "vae_dtype": "float32"}
  renderer = preset.load(preset.settings | exact)
  words = ["w1"] * (preset.settings["text_tokens"] + 10)

  def render(*texts):
    rows = [contract.render_request(text, "m", preset.settings, 0) for text in texts]
    return renderer.render(rows, lambda: None)

  (clip,) = render(" ".join(words))
  kept = len(words) - clip.lost_tokens
  assert preset.settings["text_tokens"] - 2 <= kept <= preset.settings["text_tokens"]

  def changed(place):
    return " ".join([*words[:place], "w7", *words[place + 1 :]])

  (last_kept,) = render(changed(kept - 1))
  (first_lost,) = render(changed(kept))
  np.testing.assert_array_equal(clip.frames, first_lost.frames)
  assert np.abs(clip.frames - last_kept.frames).max() > 0
  assert [one.lost_tokens for one in render(" ".join(words[:kept]), "w1")] == [0, 0]


def test_offload_changes_no_frame(preset):
  renderer = preset.load(offload="model", device="cpu")
  (frames,) = preset.frames("w1 w2", renderer=renderer)
  np.testing.assert_array_equal(frames, preset.frames("w1 w2")[0])


@pytest.mark.skipif(
  not torch.cuda.is_available(), reason="accelerate cannot offload from a CPU to itself"
)
def test_sequential_offload_renders_the_same_video(preset):
  one = preset.load(device="cuda")
  two = preset.load(device="cuda", offload="sequential")
  (frames,), (offloaded,) = (
    preset.frames("w1 w2", renderer=renderer) for renderer in (one, two)
  )
  np.testing.assert_allclose(frames, offloaded, atol=0.02)


def test_tiles_are_decoded_one_by_one(preset):
  renderer = preset.load(preset.settings | {"tiling": True})
  vae = renderer._pipe.vae
  assert vae.use_tiling
  for name in ("height", "width"):  # in the preset's size, tiles are of 256 pixels
    if hasattr(vae, f"tile_sample_stride_{name}"):
      setattr(vae, f"tile_sample_min_{name}", 48)
      setattr(vae, f"tile_sample_stride_{name}", 32)
  (frames,) = preset.frames("w1 w2", renderer=renderer)
  (whole,) = preset.frames("w1 w2")
  assert frames.shape == whole.shape
  assert np.abs(frames - whole).max() > 0, "no tile was used"
  assert np.abs(frames - whole).mean() < 0.25


def test_every_step_gives_a_heartbeat(preset):
  beats = []
  row = contract.render_request("w1", "m", preset.settings, 0)
  preset.renderer.render([row], lambda: beats.append(1))
  assert len(beats) == 2
