"""Systems of every kind in one comparison."""

import json

import faulty
import pytest

from tests.evaluate import test_evaluate
from vpo_jax import json_input, records, stages
from vpo_jax.evaluate import evaluate, measures

config = test_evaluate.config  # the miniature's, with 36 queries in queries.jsonl


@pytest.mark.slow
def test_all_kinds_are_compared_and_named(config, tmp_path, tiny_model, gpt2):
  asked = list(records.read(config.queries, records.Query))
  rows = [{"query": one.text, "prompt": f"{one.text} at dawn"} for one in asked]
  (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
  (tmp_path / "task.txt").write_text("Refine: {query}")
  (tmp_path / "llm.json").write_text('{"user": "Caption: {query}"}')
  config.limit = 3
  config.sheet.queries = 0
  config.systems = (
    "original=query",
    "long=prompts long.jsonl",
    f"promptist=promptist {gpt2}",
    f"pav=prompt_a_video {tiny_model} template=task.txt",
    "gpt_4o=llm gpt_4o",
    "gpt_4o_2=llm gpt_4o of gpt_4o",
    "few_shot=teacher",
  )
  config.prompt_a_video.max_new_tokens = 8
  entry = config.llms.gpt_4o
  entry.template = str(tmp_path / "llm.json")
  del config.video_models.second
  config.lock()
  with faulty.running(faulty.Server(lambda n, body: f'"Caption {n}."')) as server:
    entry.teacher.update(base_url=server.base_url, api_key_env="")
    stages.run(evaluate.STAGE, config, tmp_path)
    sent = [body["messages"][0]["content"] for body in server.requests]
  # The iteration rewrites the captions, not the queries.
  assert sum(text.startswith("Caption: Caption ") for text in sent) == 3
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  overall = measures.find(found, "overall")
  assert list(overall["systems"]) == [row.partition("=")[0] for row in config.systems]
  assert overall["queries"] == 3
  parts = {row["part"]: row["model"] for row in found["setup"]}
  assert parts["LLM gpt_4o"] == f"gpt-4o ({entry.teacher.base_url})"
  assert parts["model of promptist"] == f"{gpt2} (Promptist)"
  assert parts["model of pav"] == f"{tiny_model} (Prompt-A-Video)"
  assert parts["teacher"].startswith("miniature-rules")
  # Tables are made again without the interpreter and the server of finished prompts.
  config.promptist.python = "/no/interpreter"
  config.note = "again"
  stages.run(evaluate.STAGE, config, tmp_path)
