"""An LLM that rewrites queries by a message template, as an entry of `config.llms`.

The row "NAME=llm KEY" of `config.systems` names an entry. Template files of other
projects' rewriters are made by launch/make_llm_template.py (docs/baselines.md).
"""

import ml_collections

from configs import teacher


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.queries = ""  # set by the stage
  # JSON file with the messages; its settings (temperature, top_p, max_tokens) replace
  # those of `teacher`.
  config.template = ""
  config.teacher = teacher.get_config()
  return config
