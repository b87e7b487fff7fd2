"""VBench: where it is installed, and what is evaluated.

VBench needs an environment of its own, with Python 3.11 at most:

    python3.11 -m venv /envs/vbench
    /envs/vbench/bin/pip install vbench==0.1.5 torch torchvision
    /envs/vbench/bin/pip install --no-build-isolation \\
      git+https://github.com/facebookresearch/detectron2.git

Detectron2 is needed by multiple_objects, object_class, color and spatial_relationship
only. VBench downloads the models of a dimension with `wget` when they are first needed.
"""

import ml_collections


def add(config: ml_collections.ConfigDict) -> None:
  """Adds `vbench` to a config."""
  config.vbench = vbench = ml_collections.ConfigDict()
  vbench.python = ""  # VBench's interpreter, such as /envs/vbench/bin/python
  # A clone of https://github.com/Vchitect/VBench, whose code is then used. "" is the
  # installed package, which has neither VBench-Long's settings nor the long prompts.
  vbench.checkout = ""
  # VBench_full_info.json, the prompts; "" is the checkout's or the package's file.
  vbench.info = ""
  # Paper, tables 1, 3 and 5. Any of VBench's 16 dimensions is allowed.
  vbench.dimensions = (
    "human_action",
    "scene",
    "multiple_objects",
    "appearance_style",
  )
  vbench.videos_per_prompt = 5  # VBench, README
  vbench.prompts_per_dimension = 0  # for a trial: the first few; 0 is all
  # "long" is VBench-Long, the leaderboard's rule for videos of 5 s and more. It needs
  # the checkout, and in VBench's environment scenedetect and "moviepy<2" (for
  # subject_consistency and background_consistency also dreamsim). The paper does not
  # say which it used; its numbers fit "standard": all 22 percentages of
  # multiple_objects are multiples of 1 / (82 prompts x 5 videos x 16 frames), and
  # "long" has more frames.
  vbench.mode = "standard"
  vbench.gpus = 1  # per dimension; 0 is the CPU
  # The folder of all its model files ($VBENCH_CACHE_DIR); "" is ~/.cache/vbench, and
  # the usual folders for CLIP and DINO.
  vbench.cache_dir = ""
