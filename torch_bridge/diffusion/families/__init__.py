"""The families of video models that can be trained, by their pipeline in diffusers."""

from __future__ import annotations

from torch_bridge.diffusion.families import base, cogvideox, hunyuan, ltx, mochi, wan

Family = base.Family
Text = base.Text

BY_PIPELINE: dict[str, Family] = {
  "CogVideoXPipeline": cogvideox.CogVideoX(),
  "HunyuanVideoPipeline": hunyuan.HunyuanVideo(),
  "LTXPipeline": ltx.Ltx(),
  "MochiPipeline": mochi.Mochi(),
  "WanPipeline": wan.Wan(),
}


def find(pipeline: str) -> Family:
  """The family of a pipeline.

  Raises:
    ValueError: it is not one of `BY_PIPELINE`.
  """
  if pipeline not in BY_PIPELINE:
    raise ValueError(
      f"{pipeline} cannot be trained; only {', '.join(sorted(BY_PIPELINE))}"
    )
  return BY_PIPELINE[pipeline]
