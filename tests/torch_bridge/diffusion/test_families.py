"""Each family noises, encodes and calls its transformer as its pipeline does."""

import inspect
import json

import diffusers
import mini
import numpy as np
import pytest
import tiny_pipelines
import torch

from torch_bridge import contract
from torch_bridge.diffusion import data, encoder, families, loop, processes
from torch_bridge.renderers import base

PROMPT = "w1 w2 w3"
# Builder, pipeline, frames, height, width, text tokens.
KINDS = {
  "cogvideox-2b": (lambda f: tiny_pipelines.cogvideox(f, False), "CogVideoXPipeline"),
  "cogvideox-5b": (lambda f: tiny_pipelines.cogvideox(f, True), "CogVideoXPipeline"),
  "wan-2.1": (lambda f: tiny_pipelines.wan(f, "2.1"), "WanPipeline"),
  "wan-2.2-5b": (lambda f: tiny_pipelines.wan(f, "5b"), "WanPipeline"),
  "ltx": (tiny_pipelines.ltx, "LTXPipeline"),
  "hunyuan": (tiny_pipelines.hunyuan, "HunyuanVideoPipeline"),
  "mochi": (tiny_pipelines.mochi, "MochiPipeline"),
}
TOKENS = {"LTXPipeline": 128, "CogVideoXPipeline": 226}


class Model:
  """A tiny pipeline, a clip, and what the family makes of them."""

  def __init__(self, folder, kind):
    build, pipeline = KINDS[kind]
    build(folder)
    self.settings = {
      "pipeline": pipeline,
      "dtype": "float32",
      "height": 64,
      "width": 64,
      "num_frames": 13 if pipeline == "MochiPipeline" else 9,
      "fps": 8,
      "guidance_scale": 6.0,
      "text_tokens": TOKENS.get(pipeline, 16),
    }
    self.folder = folder
    spec = {"device": "cpu"}
    self.encoder = encoder.Encoder(str(folder), self.settings, spec)
    self.family = families.find(pipeline)
    made = getattr(diffusers, pipeline)
    self.pipe = made.from_pretrained(folder)
    if pipeline == "CogVideoXPipeline":  # as the presets render
      self.pipe.scheduler = self.pipe.scheduler.from_config(
        self.pipe.scheduler.config, timestep_spacing="trailing"
      )
    self.pipe.set_progress_bar_config(disable=True)
    scheduler = getattr(diffusers, self.family.scheduler)
    self.scheduler = scheduler.from_pretrained(folder, subfolder="scheduler")
    shape = self.settings["num_frames"], 64, 64, 3
    self.frames = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    self.latents = self.encoder.video(self.frames)[None]
    text = self.encoder.prompt(PROMPT)
    self.text = {name: value[None] for name, value in text.items()}
    self.noising = self.family.noising(self.scheduler, self.latents[0], self.settings)

  def packed(self, latents):
    """The latents as the pipeline takes them."""
    if not isinstance(self.pipe, diffusers.LTXPipeline):
      return latents
    config = self.pipe.transformer.config
    return self.pipe._pack_latents(latents, config.patch_size, config.patch_size_t)

  def unpacked(self, tokens):
    if not isinstance(self.pipe, diffusers.LTXPipeline):
      return tokens
    config, size = self.pipe.transformer.config, self.latents.shape[-3:]
    return self.pipe._unpack_latents(
      tokens, *size, config.patch_size, config.patch_size_t
    )

  def level(self, timestep):
    """The number from 0 to 1 whose noise level is that of a timestep."""
    part = float(timestep.flatten()[0]) / 1000
    if isinstance(self.pipe, diffusers.CogVideoXPipeline):
      return part + 0.0005
    if isinstance(self.pipe, diffusers.MochiPipeline):
      return 1 - part
    shift = self.noising._shift
    return part / (shift - (shift - 1) * part)

  def render(self, forward, noise):
    """Renders in three steps with `forward` in the transformer's place."""
    module = self.pipe.transformer
    original = module.forward
    module.forward = forward
    try:
      call = {
        name: self.settings[name]
        for name in ("height", "width", "num_frames", "guidance_scale")
      }
      if "frame_rate" in inspect.signature(self.pipe.__call__).parameters:
        call["frame_rate"] = self.settings["fps"]
      if not isinstance(self.pipe, diffusers.HunyuanVideoPipeline):
        call["guidance_scale"] = 1.0  # without the empty prompt
      return self.pipe(
        prompt=PROMPT,
        num_inference_steps=3,
        latents=self.packed(noise),
        max_sequence_length=self.settings["text_tokens"],
        output_type="latent",
        **call,
      ).frames
    finally:
      module.forward = original


@pytest.fixture(scope="module", params=list(KINDS))
def model(request, tmp_path_factory):
  return Model(tmp_path_factory.mktemp(request.param), request.param)


def _inputs(call):
  """The tensors of a call of the transformer."""
  args, given = call
  names = list(inspect.signature(given.pop("__class__").forward).parameters)[1:]
  found = dict(zip(names, args, strict=False)) | given
  return {
    name: value
    for name, value in found.items()
    if value is not None and name != "return_dict"
  }


def test_the_transformer_gets_what_the_pipeline_gives_it(model):
  """An oracle in the transformer's place predicts the family's target, given the clip.

  The pipeline then renders that clip from noise. At every step its noisy latents and
  all other inputs of the transformer are those that training would make.
  """
  noise = torch.randn(model.latents.shape, generator=torch.Generator().manual_seed(1))
  kind = type(model.pipe.transformer)
  calls = []

  def oracle(*args, **given):
    inputs = _inputs((args, given | {"__class__": kind}))
    level = torch.tensor([model.level(inputs["timestep"])])
    noised = model.noising(model.latents, noise, level)
    calls.append((inputs, noised))
    return (model.packed(noised.target),)

  rendered = model.unpacked(model.render(oracle, noise))
  torch.testing.assert_close(
    rendered.reshape(model.latents.shape), model.latents, atol=2e-2, rtol=0
  )
  assert len(calls) == 3
  for inputs, noised in calls:
    torch.testing.assert_close(
      # Wan's scheduler rounds its timesteps.
      inputs["hidden_states"],
      model.packed(noised.latents),
      atol=5e-3,
      rtol=1e-3,
    )
    mine = []

    def capture(*args, mine=mine, **given):
      mine.append(_inputs((args, given | {"__class__": kind})))
      return (args[0] if args else given["hidden_states"],)

    model.family.predict(
      capture, model.pipe.transformer.config, noised, model.text, model.settings
    )
    assert mine[0].keys() == inputs.keys() - {"attention_kwargs"}
    for name, value in mine[0].items():
      _same(name, value, inputs[name])


def _same(name, mine, theirs):
  if isinstance(theirs, tuple):
    for one, two in zip(mine, theirs, strict=True):
      torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(two))
    return
  mine, theirs = torch.as_tensor(mine), torch.as_tensor(theirs)
  if name == "timestep":  # one for each token, all equal
    theirs = theirs.flatten()[:1]
  torch.testing.assert_close(
    mine.float(), theirs.float(), atol=5e-3, rtol=1e-3, msg=lambda m: f"{name}: {m}"
  )


def test_latents_are_those_that_the_pipeline_decodes(model):
  """The pipeline unscales the family's latents to what its VAE made of the frames."""
  decoded = []
  vae = model.pipe.vae
  pixels = torch.from_numpy(model.frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
  assert pixels.min() == -1
  assert pixels.max() == 1
  with torch.no_grad():
    plain = vae.encode(pixels).latent_dist.mode()
  original = vae.decode
  vae.decode = lambda latents, *_, **__: decoded.append(latents) or original(latents)
  try:
    _decode(model)
  finally:
    vae.decode = original
  torch.testing.assert_close(decoded[0].reshape(plain.shape), plain, atol=2e-2, rtol=0)


def _decode(model):
  """Renders the model's latents with an oracle, and decodes them."""
  noise = torch.zeros_like(model.latents)

  def oracle(*args, **given):
    inputs = _inputs((args, given | {"__class__": type(model.pipe.transformer)}))
    level = torch.tensor([model.level(inputs["timestep"])])
    return (model.packed(model.noising(model.latents, noise, level).target),)

  call = model.pipe.__class__.__call__
  made = model.pipe

  class Decoding(type(made)):
    def __call__(self, *args, **given):
      return call(self, *args, **given | {"output_type": "np"})

  made.__class__ = Decoding
  try:
    model.render(oracle, noise)
  finally:
    made.__class__ = Decoding.__bases__[0]


# Mochi asks for an autocast that a CPU does not have.
@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_the_prediction_has_the_shape_of_the_latents(model):
  noise = torch.randn_like(model.latents)
  noised = model.noising(model.latents, noise, torch.tensor([0.5]))
  module = model.pipe.transformer
  found = model.family.predict(
    module, module.config, noised, model.text, model.settings
  )
  assert found.shape == noised.target.shape == model.latents.shape


def test_rotary_tables_change_the_5bs_prediction(tmp_path):
  model = Model(tmp_path, "cogvideox-5b")
  module = model.pipe.transformer
  noise = torch.randn_like(model.latents)
  noised = model.noising(model.latents, noise, torch.tensor([0.5]))

  def without_tables(*args, **given):
    return module(*args, **given | {"image_rotary_emb": None})

  arguments = module.config, noised, model.text, model.settings
  with torch.no_grad():
    right = model.family.predict(module, *arguments)
    wrong = model.family.predict(without_tables, *arguments)
  assert (right - wrong).abs().max() > 1e-3


@pytest.mark.parametrize(
  ("kind", "change", "reason"),
  [
    ("cogvideox-2b", {"height": 72}, "height is 72; this model takes multiples of 16"),
    ("cogvideox-5b", {"num_frames": 8}, "num_frames - 1 is 7; .* multiples of 4"),
    ("ltx", {"width": 65}, "width is 65; this model takes multiples of"),
    ("wan-2.1", {"call": {"guidance_scale_2": 3.0}}, "two transformers"),
    ("wan-2.1", {"pipeline": "AllegroPipeline"}, "cannot be trained; only CogVideoXP"),
  ],
)
def test_a_size_that_the_model_cannot_take_is_one_line(tmp_path, kind, change, reason):
  build, pipeline = KINDS[kind]
  build(tmp_path)
  settings = {
    "pipeline": pipeline,
    "dtype": "float32",
    "height": 64,
    "width": 64,
    "num_frames": 9,
    "text_tokens": 226,
  }
  with pytest.raises(base.ModelError, match=reason) as caught:
    encoder.Encoder(str(tmp_path), settings | change, {"device": "cpu"})
  assert "\n" not in str(caught.value)


class Encoded(data.Source):
  """Encoded pairs that are in memory."""

  def __init__(self, model):
    self._latents = {"chosen": model.latents[0], "rejected": -model.latents[0]}
    self._text = {name: value[0] for name, value in model.text.items()}

  def latents(self, request_id):
    return self._latents[request_id]

  def text(self, request_id):
    return self._text


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_two_steps_of_training_and_the_lora_that_a_pipeline_reads(model, tmp_path):
  pairs = [contract.EncodedPair(str(k), "text", "chosen", "rejected") for k in range(3)]
  settings = model.settings
  if model.folder.name.startswith("wan"):
    settings = settings | {"scheduler_args": {"flow_shift": 7.0}}
  job = mini.write_job(
    tmp_path,
    contract.Store(tmp_path / "store"),
    pairs,
    model=str(model.folder),
    settings=settings,
    steps=2,
  )
  accelerator = processes.accelerator(job)
  trainer = loop.Trainer(job, tmp_path, accelerator, Encoded(model))
  assert trainer.run(2, lambda: False)
  if "scheduler_args" in settings:
    assert trainer._noising._shift == 7.0
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
  assert rows[1]["loss"] < rows[0]["loss"]
  pipe = type(model.pipe).from_pretrained(model.folder)
  noise = torch.randn_like(model.latents)
  noised = model.noising(model.latents, noise, torch.tensor([0.5]))

  def prediction(module):
    with torch.no_grad():
      return model.family.predict(
        module, pipe.transformer.config, noised, model.text, model.settings
      )

  before = prediction(pipe.transformer)
  pipe.load_lora_weights(tmp_path / loop.OUTPUT / f"{2:07d}")
  after = prediction(pipe.transformer)
  torch.testing.assert_close(after, prediction(trainer.policy.module))
  assert (after - before).abs().max() > 1e-6
