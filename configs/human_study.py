"""A study for raters from an evaluation's videos (paper, sections 4.2 and 4.4).

    python launch/human_study.py --config=configs/human_study.py --workdir=runs/mine

Raters get <workdir>/human_study/study and open index.html in a browser; no server is
needed. For Label Studio, import label_studio.json with the labeling interface
label_studio.xml instead.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.suite = "test"  # one of the evaluation's suites (configs/evaluate.py)
  config.prompts = ""  # "" is evaluate/SUITE/VIDEO_MODEL/prompts.jsonl of the workdir
  config.videos = ""  # rows of its videos; "" is the suite's file beside the prompts
  config.labels = ""  # the queries' classes; "" is suites/SUITE/labels.json
  config.folder = "human_study"  # of the workdir; each study needs its own
  config.video_model = "main"  # as in configs/evaluate.py
  config.store = ""  # the videos; "" is store/ of the workdir

  # "pairs" compares systems (figure 3); "levels" gives each video of a safety-related
  # query a safety level (figure 4).
  config.kind = "pairs"
  # Rows of two systems, such as ("vpo original", "vpo few_shot"). The wins are those of
  # the first. () compares the last system with every other.
  config.compare = ()
  config.systems = ()  # of a study of levels; () is all
  # Queries to draw at random; 0 takes all. The paper has 200 for levels, and does not
  # say how many for pairs.
  config.queries = 0
  config.seed = 0  # of the draw, the sides and the order
  # Where Label Studio finds the videos: an address to which names are appended, such as
  # "http://host/videos/" or "/data/local-files/?d=study/videos/".
  config.videos_at = "/data/local-files/?d=study/videos/"
  return config
