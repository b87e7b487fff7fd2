"""The worker's task `encode`: latents of videos and states of prompts, once each.

Training reads them from the store, so it needs neither VAE nor text encoder in memory.
"""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# pyright: reportPrivateImportUsage=false
import diffusers
import numpy as np
import torch

from torch_bridge import contract, video
from torch_bridge.diffusion import families, tensors
from torch_bridge.renderers import base
from torch_bridge.renderers import diffusers as rendering

LATENTS = "latents"  # name of the tensor in a video's file


class Encoder:
  """A pipeline without its transformer."""

  def __init__(self, model: str, settings: dict[str, Any], options: dict[str, Any]):
    """Loads the VAE and the text encoders.

    Args:
      model: model directory or hub id.
      settings: of the renderer.
      options: `device` and `revision`.

    Raises:
      ModelError: the pipeline cannot be loaded, trained, or take the settings' size.
    """
    try:
      self._family = families.find(settings["pipeline"])
      with warnings.catch_warnings():
        # A pipeline warns that its transformer is missing.
        warnings.simplefilter("ignore")
        self._pipe = rendering.load(model, settings, options, transformer=None)
      config = transformer_config(model, options, self._family)
      self._family.check(config, settings)
      _check_size(settings, self._family.multiples(self._pipe, config))
    except (OSError, ValueError, AttributeError, KeyError, ImportError) as error:
      line = " ".join(str(error).split())
      raise base.ModelError(f"{model}: cannot be trained: {line}") from error
    self._pipe.to(options.get("device") or rendering.default_device())
    if settings.get("tiling"):
      self._pipe.vae.enable_tiling()
    self._settings = settings

  @torch.no_grad()
  def video(self, frames: np.ndarray) -> torch.Tensor:
    """Latents as the transformer takes them, in float32.

    Args:
      frames: uint8 [T, H, W, 3].
    """
    vae = self._pipe.vae
    pixels = torch.from_numpy(frames).to(vae.device).permute(3, 0, 1, 2)[None]
    scaled = pixels.float() / 127.5 - 1
    return self._family.encode_video(self._pipe, scaled.to(vae.dtype))

  @torch.no_grad()
  def prompt(self, prompt: str) -> families.Text:
    """The text inputs of the transformer."""
    return self._family.encode_text(self._pipe, prompt, self._settings)


def transformer_config(
  model: str, options: dict[str, Any], family: families.Family
) -> Any:
  """The config of a model's transformer, without its weights."""
  made: Any = getattr(diffusers, family.transformer)
  found = made.load_config(
    model, subfolder="transformer", revision=options.get("revision") or None
  )
  with torch.device("meta"):  # for the defaults of keys that an old file lacks
    return made.from_config(found).config


def _check_size(settings: dict[str, Any], multiples: tuple[int, int, int]) -> None:
  """Checks the size that the settings ask for.

  Raises:
    ValueError: the VAE and the patches do not divide it.
  """
  asked = {
    "num_frames - 1": settings["num_frames"] - 1,
    "height": settings["height"],
    "width": settings["width"],
  }
  for (name, value), multiple in zip(asked.items(), multiples, strict=True):
    if value % multiple:
      raise ValueError(f"{name} is {value}; this model takes multiples of {multiple}")


class Encoding:
  """The task of a worker."""

  stage = "encode"
  row_type = contract.EncodeRequest

  def __init__(self, store: contract.Store, encoder: Encoder, settings: dict[str, Any]):
    self._store = store
    self._encoder = encoder
    self._settings = settings

  def is_done(self, request: contract.EncodeRequest) -> bool:
    return tensors.is_intact(self._store.encoded(request.id))

  def can_share(self, one: contract.EncodeRequest, two: contract.EncodeRequest) -> bool:
    return False

  def work(
    self, requests: Sequence[contract.EncodeRequest], heartbeat: Callable[..., None]
  ) -> Iterator[tuple[contract.EncodeRequest, contract.Failure | None]]:
    """Encodes one request; a bad video is its failure.

    Raises:
      OutOfMemory: it does not fit.
    """
    for request in requests:
      failure = None
      out_of_memory = ""
      try:
        tensors.write(self._store.encoded(request.id), self._encode(request))
      except video.BadVideo as error:
        failure = contract.Failure(request.id, self.stage, str(error), 1)
      except (RuntimeError, MemoryError) as error:
        if not rendering.is_out_of_memory(error):
          raise
        out_of_memory = " ".join(str(error).split())[:300]
      if out_of_memory:
        # Outside the handler: the exception's traceback holds the tensors.
        rendering.free()
        raise base.OutOfMemory(f"{out_of_memory} (renderer.settings.tiling needs less)")
      heartbeat()
      yield request, failure

  def _encode(self, request: contract.EncodeRequest) -> dict[str, torch.Tensor]:
    if not request.path:
      return self._encoder.prompt(request.prompt)
    frames = read_frames(self._store.root / request.path, self._settings)
    return {LATENTS: self._encoder.video(frames)}


def read_frames(path: pathlib.Path, settings: dict[str, Any]) -> np.ndarray:
  """A video's frames, uint8 [T, H, W, 3].

  Raises:
    BadVideo: not a video, black, or not of the settings' size and length.
  """
  frames, _ = video.read(path)
  size = tuple(settings[name] for name in ("num_frames", "height", "width"))
  if frames.shape[:3] != size:
    found, wanted = ("x".join(map(str, shape)) for shape in (frames.shape[:3], size))
    raise video.BadVideo(
      f"{path.name}: frames x height x width are {found}, not {wanted}"
    )
  try:
    return video.check_frames(frames, settings["num_frames"])
  except video.BadVideo as error:
    raise video.BadVideo(f"{path.name}: {error}") from error


def make(store: contract.Store, spec: dict[str, Any]) -> Encoding:
  encoder = Encoder(spec["model"], spec["settings"], spec.get("options", {}))
  return Encoding(store, encoder, spec["settings"])
