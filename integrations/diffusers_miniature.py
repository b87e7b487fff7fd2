"""Renders a query with diffusers: the optimizer's prompt is the pipeline's input.

    python integrations/diffusers_miniature.py --model=runs/quickstart/vpo \
      --output=video.gif "a red ball falls"

The pipeline is that of the miniature, which a CPU runs in a second. With another model
only the call's settings differ (docs/serving.md).
"""

import pathlib
import sys

from absl import flags

import torch_bridge.miniature
from vpo_jax import errors, rewriter
from vpo_jax.runtime import app, console

_MODEL = flags.DEFINE_string(
  "model", None, "Model directory, hub id, or smollm2-135m-instruct.", required=True
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the prompt and of the video.")
_OUTPUT = flags.DEFINE_string("output", "video.gif", "File for the video.")

_PIPELINE = pathlib.Path(torch_bridge.miniature.__file__).parent / "model"


def main() -> None:
  args = flags.FLAGS(sys.argv)[1:]
  if len(args) != 1:
    raise errors.UserError('give one query in quotes, such as "a cat"')
  import diffusers
  import torch
  from diffusers import utils

  rewrite = rewriter.Rewriter(_MODEL.value)
  pipe = diffusers.CogVideoXPipeline.from_pretrained(
    _PIPELINE, torch_dtype=torch.float32
  )
  prompt = rewrite(args[0], target="miniature", seed=_SEED.value)
  console.say(prompt)
  video = pipe(
    prompt=prompt,
    generator=torch.Generator().manual_seed(_SEED.value),
    height=32,
    width=32,
    num_frames=9,
    num_inference_steps=10,
    guidance_scale=2.0,
    max_sequence_length=56,
  ).frames[0]
  frames = [frame.resize((256, 256)) for frame in video]
  utils.export_to_gif(frames, _OUTPUT.value, fps=8)


if __name__ == "__main__":
  app.run(main)
