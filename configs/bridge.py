"""The torch bridge: the renderer, the scorer, and the devices they run on.

Part of configs/score_videos.py. Nothing is rendered or scored by default: name a video
model (`renderer.preset`) and a scorer (`scorer.name`). For the paper's setup:

    --config.renderer.preset=cogvideox-2b
    --config.scorer.name=visionreward --config.scorer.python=/envs/vr/bin/python
    --config.scorer.model=THUDM/VisionReward-Video --config.scorer.revision=...
    --config.scorer.questions=VisionReward_video_qa_select.txt
    --config.scorer.weights=weight.json
    --config.scorer.options.trust_remote_code=True

configs/miniature.py sets a model and a scorer that run on a CPU.
"""

import ml_collections


def add(config: ml_collections.ConfigDict) -> None:
  """Adds `renderer`, `scorer` and `bridge` to a stage's config."""
  config.renderer = renderer = ml_collections.ConfigDict()
  # Video model and its settings: a name in torch_bridge/presets.json, or a JSON file
  # of the same keys. "" requires renderer.name, renderer.model and renderer.settings.
  renderer.preset = ""
  renderer.model = ""  # model directory or hub id; "" is the preset's
  renderer.revision = ""  # of a hub model
  # diffusers: a LoRA on the model (launch/train_diffusion_dpo.py makes one). Its files
  # and its scale are part of the video's identity.
  renderer.lora = lora = ml_collections.ConfigDict()
  lora.path = ""  # folder with pytorch_lora_weights.safetensors
  lora.scale = 0.0  # 0 is 1
  renderer.name = ""  # diffusers, command, http, or your module; "" is the preset's
  renderer.python = ""  # interpreter that has the packages; "" is the current one
  renderer.batch = 1  # videos per call; halved when memory runs out
  # Override the preset; 0 and "" keep the preset's value.
  renderer.settings = settings = ml_collections.ConfigDict()
  settings.pipeline = ""  # a pipeline class of diffusers
  settings.height = 0  # pixels
  settings.width = 0  # pixels
  settings.num_frames = 0
  settings.fps = 0  # frames per second
  settings.num_inference_steps = 0
  settings.guidance_scale = 0.0
  settings.text_tokens = 0  # the text encoder's limit; truncates prompts
  settings.dtype = ""  # float16, bfloat16 or float32
  settings.tiling = False  # tile the VAE to save memory
  settings.scheduler = ""  # a scheduler class of diffusers; "" is the model's own
  settings.negative_prompt = ""
  renderer.codec = "libx264"
  renderer.crf = 17  # ours: visually lossless
  renderer.options = options = ml_collections.ConfigDict()
  options.device = ""  # diffusers: "" is cuda if there is any, else cpu
  # diffusers: weights in host memory: none, model or sequential.
  options.offload = "none"
  options.base_url = ""  # http: address of an OpenAI-style video server, with /v1
  options.key_env = ""  # http: environment variable with the key; "" is OPENAI_API_KEY
  options.body = ""  # http: "json" (SGLang) or "form" (vLLM-Omni, OpenAI); "" is json
  options.parallel = 0  # http: concurrent jobs per worker; 0 is 4
  options.poll_s = 0.0  # http: seconds between polls of a job; 0 is 2
  options.job_s = 0.0  # http: seconds until a job times out; 0 is 3600
  options.timeout_s = 0.0  # http: seconds per call; 0 is 120
  options.retries = 0  # http: retries of temporary failures; 0 is 16

  config.scorer = scorer = ml_collections.ConfigDict()
  scorer.name = ""  # visionreward, http, or your own module
  scorer.model = ""  # model directory, hub id, or the name that the server knows
  scorer.revision = ""  # of a hub model, or of your module
  # Question file: JSON with weights and groups, or text with one question per line.
  scorer.questions = ""
  scorer.weights = ""  # weight file, for questions in a text file
  scorer.python = ""  # interpreter that has the packages; "" is the current one
  # For a scorer of named rewards: those that count, with their weights, such as
  # ("VQ 1.0", "TA 2.0"); () counts each with weight 1. Set rules.margin to their scale.
  scorer.dimensions = ()
  # What replaces [[prompt]] in a question: the user's query (release), or the rewritten
  # prompt ("prompt").
  scorer.text_role = "query"
  scorer.options = options = ml_collections.ConfigDict()
  options.trust_remote_code = False  # visionreward requires True: it runs model code
  # visionreward: questions per batch, used only if a batch and single questions give
  # the first video the same answers; 0 is 1 (release).
  options.questions_at_once = 0
  options.base_url = ""  # http: address of an OpenAI-compatible server
  options.key_env = ""  # http: environment variable with the key; "" is OPENAI_API_KEY
  # http: token limit of an answer; 0 is 5. A model that reasons needs thousands.
  options.max_tokens = 0
  options.frames = 0  # http: frames shown per question; 0 is 7
  options.parallel = 0  # http: concurrent calls; 0 is 8
  options.timeout_s = 0.0  # http: seconds per call; 0 is 120
  options.retries = 0  # http: retries of temporary failures; 0 is 8

  config.bridge = bridge = ml_collections.ConfigDict()
  bridge.store = ""  # folder of finished work, shared by runs; "" is the stage's own
  bridge.executor = (
    "local"  # or "ray": tasks of a Ray cluster with a shared file system
  )
  bridge.address = ""  # of the Ray cluster; "" is RAY_ADDRESS, or a local cluster
  bridge.gpus = -1  # per Ray worker; -1 is one if the cluster has any
  bridge.workers = 0  # 0 is one per device; on a CPU one per core, up to four
  bridge.devices = ""  # such as "0,1,2,3"; "" is all
  bridge.shard = 16  # most requests that a worker takes at once
  bridge.hang_s = 900.0  # kill a worker after this long without a heartbeat
  bridge.restarts = 3  # worker crashes in a row before giving up
