"""The torch bridge: what renders, what scores, and on how many devices.

Part of configs/video_pairs.py. The default is the embedded stand-in: a tiny CogVideoX
with random weights and a checklist answered by measurements. For the paper's set-up:

    --config.renderer.preset=cogvideox-2b
    --config.scorer.name=visionreward --config.scorer.python=/envs/vr/bin/python
    --config.scorer.model=THUDM/VisionReward-Video --config.scorer.revision=...
    --config.scorer.questions=VisionReward_video_qa.txt --config.scorer.weights=...
    --config.scorer.options.trust_remote_code=True
"""

import ml_collections


def add(config: ml_collections.ConfigDict) -> None:
  """Adds `renderer`, `scorer` and `bridge` to a stage's config."""
  config.renderer = renderer = ml_collections.ConfigDict()
  # Of torch_bridge/presets.json: model, size, steps, ...; or a JSON file of your own
  # that says as much, for a pipeline that has no preset; or "" and all of it below.
  renderer.preset = "tiny"
  renderer.model = ""  # directory or hub id; "" is the preset's
  renderer.revision = ""  # of a hub model
  renderer.name = ""  # diffusers, command, or a module of yours; "" is the preset's
  renderer.python = ""  # interpreter that has its packages; "" is this one
  renderer.batch = 1  # videos at once; halved when memory runs out
  # Over the preset's; 0 and "" are the preset's own.
  renderer.settings = settings = ml_collections.ConfigDict()
  settings.pipeline = ""  # a pipeline class of diffusers
  settings.height = 0  # pixels
  settings.width = 0
  settings.num_frames = 0
  settings.fps = 0
  settings.num_inference_steps = 0
  settings.guidance_scale = 0.0
  settings.text_tokens = 0  # the text encoder's limit
  settings.dtype = ""
  settings.tiling = False  # of the VAE: less memory
  settings.scheduler = ""  # a scheduler class of diffusers; "" is the model's own
  settings.negative_prompt = ""
  renderer.codec = "libx264"
  renderer.crf = 17  # ours: no loss to be seen
  # What does not change a frame; offload is "none", "model" or "sequential".
  renderer.options = ml_collections.ConfigDict({"device": "", "offload": "none"})

  config.scorer = scorer = ml_collections.ConfigDict()
  # checklist, miniature, visionreward, http, or a module of yours
  scorer.name = "checklist"
  scorer.model = ""
  scorer.revision = ""
  scorer.questions = ""  # "" is its own, or torch_bridge/scorers/checklist.json
  scorer.weights = ""  # only beside a text file of questions
  scorer.python = ""  # interpreter that has its packages; "" is this one
  # Of a scorer that gives named rewards in place of answers: those that count, with
  # their weights, such as ("VQ 1.0", "TA 2.0"); () is all that it gives, 1.0 each.
  # Their scale is the scorer's own: set rules.margin to it.
  scorer.dimensions = ()
  scorer.text_role = "query"  # release: [[prompt]] is the user's query, not the prompt
  # How the scorer is reached and run; 0 and "" are its own defaults.
  scorer.options = ml_collections.ConfigDict(
    {
      "trust_remote_code": False,  # visionreward runs its model's own code: say so
      "questions_at_once": 0,  # visionreward: a batch; 1 is the release's way
      "base_url": "",  # http: an OpenAI-compatible vision model
      "key_env": "",  # http: the variable that holds the key
      "frames": 0,  # http: frames shown
      "parallel": 0,  # http: calls at once
      "timeout_s": 0.0,  # http
      "retries": 0,  # http: tries again of what may pass
    }
  )

  config.bridge = bridge = ml_collections.ConfigDict()
  bridge.store = ""  # finished work, shared by runs; "" is the stage's own folder
  bridge.executor = "local"  # "ray": tasks of a Ray cluster over a shared file system
  bridge.address = ""  # of the Ray cluster; "" is RAY_ADDRESS, or one of this machine
  bridge.gpus = -1  # of a Ray worker; -1: one if the cluster has any
  bridge.workers = 0  # 0: one a device; on a CPU one a core, up to four
  bridge.devices = ""  # "0,1,2,3"; "" is all
  bridge.shard = 16  # requests that a worker takes at once
  bridge.hang_s = 900.0  # without a heartbeat; loading a 5B model takes minutes
  bridge.restarts = 3  # deaths in a row that finish nothing
