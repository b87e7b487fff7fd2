"""Systems compared on the test queries (paper, section 4; tables 1 to 4 and 6).

    python launch/evaluate.py --config=configs/evaluate.py --workdir=runs/mine

Each system's prompts and verdicts are in <workdir>/suites/SUITE/systems/NAME; the
tables are <workdir>/evaluate/README.md and results.json. Each video model has a
renderer and a scorer as in configs/bridge.py
(`--config.video_models.main.renderer.preset=...`); the teacher (`build_sft.teacher`)
and the judge (`alignment.teacher`) are configured as in configs/teacher.py.
"""

import ml_collections

from configs import build_sft, llm, promptist, sample, score_videos, teacher, vbench


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  # Whose queries are used, and what is measured: "test" (the run's own test queries),
  # "monetbench", "vbench", "query_alignment", "t2vsafety" (docs/evaluation.md).
  config.suites = ("test",)
  # The suites in which iterations ("vpo_2=vpo of vpo") are compared: paper, section 11.
  config.iterate = ("test", "monetbench")
  config.limit = 0  # the first N queries of each suite, for a trial; 0 is all
  config.queries = ""  # of "test", in any form; "" is curate/test.jsonl of the workdir

  config.monetbench = ml_collections.ConfigDict()
  # Parquet file of zai-org/VisionRewardDB-Video: monetbench/test-00000-of-00001.parquet
  config.monetbench.prompts = ""

  vbench.add(config)

  config.query_alignment = ml_collections.ConfigDict()
  config.query_alignment.queries = ""  # "" is curate/test.jsonl of the workdir
  config.query_alignment.count = 500  # paper, section 4.1; 0 is all

  config.t2vsafety = safety = ml_collections.ConfigDict()
  safety.folder = ""  # T2VSafetyBench's folder of prompts, in a checkout
  safety.count = 200  # paper, appendix 9; 0 is all
  safety.seed = 0  # of the sample
  # A vision model that gives each video a level, or a scorer of your own that gives one
  # or the measures of compare.levels; a scorer named "" leaves the levels to people
  # (launch/human_study.py).
  safety.judge = judge = score_videos.get_config().scorer
  judge.name = "torch_bridge.scorers.safety_level"
  judge.model = "gpt-4o"
  judge.options.base_url = "https://api.openai.com/v1"
  judge.options.votes = 3  # of which the median counts; ours
  # Rows of NAME=SOURCE, weakest system first (docs/baselines.md). SOURCE is one of:
  #   query                          the query itself
  #   teacher                        the teacher's few-shot prompt (paper, figure 7)
  #   MODEL [instruction=FILE] [for=TARGET]
  #                                  a directory (also relative to the workdir), a hub
  #                                  id, or the embedded model; it is given the notes
  #                                  of TARGET (a profile of configs/targets or a file)
  #   prompts FILE [queries=FILE]    published prompts
  #   llm KEY                        an LLM with a message template: config.llms.KEY
  #   promptist [MODEL]              Promptist: config.promptist
  #   prompt_a_video MODEL template=FILE
  # "vpo_2=vpo of vpo" applies the model "vpo" to the prompts of the system "vpo" (the
  # paper's iterations, section 11). A model gets the instruction that is stored with
  # it. The release's models come without one: "released=CCCCCC/VPO-5B
  # instruction=FILE" names a template file.
  config.systems = (
    "original=query",
    "few_shot=teacher",
    "sft=train_sft/model",
    "vpo=vpo",
  )
  config.build_sft = build_sft.get_config()  # the teacher, if it is one of the systems
  # LLMs with message templates, by key. A config of your own may add more.
  config.llms = ml_collections.ConfigDict(
    {"glm_4": llm.get_config(), "gpt_4o": llm.get_config()}
  )
  config.llms.glm_4.teacher.update(
    model="glm-4-plus",  # CogVideo, inference/convert_demo.py
    base_url="https://open.bigmodel.cn/api/paas/v4",
    api_key_env="ZHIPUAI_API_KEY",
  )
  config.llms.gpt_4o.teacher.model = "gpt-4o"  # paper, tables 1 and 2

  config.promptist = promptist.get_config()

  config.prompt_a_video = sample.get_config()
  config.prompt_a_video.update(
    num_candidates=1,
    # Prompt-A-Video, booster/inference/inference_chat.py: all of these.
    temperature=1.0,
    top_p=1.0,
    top_k=50,
    max_new_tokens=256,
    seed=42,
    generation_prompt=False,
  )
  config.sample = sample.get_config()
  config.sample.update(
    num_candidates=1,
    temperature=0.7,  # release, inference
    top_p=1.0,  # release, inference
  )
  config.alignment = alignment = ml_collections.ConfigDict()  # the judge
  alignment.candidates = ""  # set by the stage, for each system
  # 6 or 5, as in the critique that trained the systems (configs/text_pairs.py).
  alignment.critique_rules = 6
  alignment.template = ""  # template file; "" is vpo_jax/templates/alignment.txt
  alignment.teacher = teacher.get_config()

  # Each renders all prompts; one without a named renderer is skipped. The systems were
  # trained for "main"; the paper's second video model, Open-Sora 1.2, was never used in
  # training (section 4.6). A video model may have a key `systems`: names of the only
  # systems whose prompts it renders.
  config.video_models = ml_collections.ConfigDict({"main": score_videos.get_config()})

  # Folders of the workdir with people's ratings (launch/human_results.py), for figures
  # 3 and 4, such as ("human_study", "human_levels").
  config.ratings = ()

  config.note = ""  # printed above every table, for example "stand-in models"

  config.compare = compare = ml_collections.ConfigDict()
  # Measures of the scorer with the limits between the four safety levels of figure 4,
  # such as ("splatter 0.01 0.03 0.06", "fire 0.02 0.06 0.12") of the miniature. A
  # video's level is the worst of its measures' levels.
  compare.levels = ()
  # Our system, then the paper's method; the paper's number for the same video model is
  # printed in brackets. Systems that the run does not have are ignored.
  compare.paper = (
    "original Original Query",
    "long VBench Long Prompts",
    "few_shot GPT-4o Few-Shot",
    "gpt_4o GPT-4o Few-Shot",
    "glm_4 GLM-4 Few-Shot",
    "promptist Promptist",
    "prompt_a_video Prompt-A-Video",
    "sft VPO-SFT",
    "without_text VPO w/o TL FDBK",
    "vpo VPO",
  )
  # Systems on different video models (figure 5): rows of NAME=SYSTEM MODEL, weakest
  # first. Those whose system or video model the run does not have are ignored.
  compare.combinations = (
    "standard=few_shot main",  # the original model with the official rewriting
    "diffusion_dpo=few_shot diffusion_dpo",
    "vpo=vpo main",
    "vpo_diffusion_dpo=vpo diffusion_dpo",
  )
  compare.draws = 10_000  # resamples of the bootstrap; ours
  compare.seed = 0  # of the bootstrap

  config.sheet = sheet = ml_collections.ConfigDict()
  sheet.queries = 6  # rows of sheet.png, two of them safety-related; 0 skips it

  config.report = report = ml_collections.ConfigDict()  # report.html
  # Queries per suite and video model whose videos it includes, among them the largest
  # gains and losses and unsafe ones; 0 is all.
  report.videos = 100
  return config
