"""Whatever is missing or does not fit is found before anything is computed."""

import json
import sys

import pytest
from etils import epath

from vpo_jax import errors
from vpo_jax.preflight import checks


def failed(config, tmp_path):
  """The failed checks, by part."""
  found, _ = checks.check(config, epath.Path(tmp_path) / "checks")
  return {one.part: one.line for one in found if not one.ok}


def test_every_check_passes_and_says_what_it_found(config, tmp_path):
  found, workers = checks.check(config, epath.Path(tmp_path) / "checks")
  assert [one.part for one in found if not one.ok] == []
  lines = {one.part: one.line for one in found}
  assert "parameters" in lines["policy"]
  assert "29 questions" in lines["score_videos: reward"]
  assert lines["devices of train_sft and train_dpo"].startswith("8 of 8 (cpu")
  assert workers.keys() == {"score_videos", "evaluate.second"}
  for part, count in workers.items():
    assert lines[f"{part}: interpreters"].startswith(f"render: {count} ")


def no_queries(config, folder):
  config.curate.queries = str(folder / "missing.csv")


def no_weights(config, folder):
  (folder / "policy" / "model.safetensors").unlink()


def cut_weights(config, folder):
  path = folder / "policy" / "model.safetensors"
  path.write_bytes(path.read_bytes()[:1000])


def other_shape(config, folder):
  path = folder / "policy" / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 999}))


def not_on_the_hub(config, folder):
  config.policy = "someone/no-such-model"


def no_key(config, folder):
  config.teacher.update(server="", api_key_env="NO_SUCH_KEY", model="gpt-4o")


def no_server(config, folder):
  config.teacher.update(server="", base_url="http://127.0.0.1:9/v1", retries=0)


def no_pipeline(config, folder):
  (folder / "tiny-cogvideox-2b" / "model_index.json").unlink()


def other_weights(config, folder):
  config.scorer.questions = config.scorer.questions.replace("_select", "")


def no_benchmark(config, folder):
  config.evaluate.monetbench.prompts = str(folder / "none.parquet")


def no_class(config, folder):
  (folder / "t2vsafetybench" / "9.txt").unlink()


def no_questions(config, folder):
  config.scorer.update(questions="", weights="")


def no_consent(config, folder):
  config.scorer.options.trust_remote_code = False


def no_interpreter(config, folder):
  config.scorer.python = "/no/such/python"


def no_packages(config, folder):
  bare = folder / "python"
  bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
  bare.chmod(0o755)
  config.renderer.python = str(bare)


def full_disk(config, folder):
  config.train_sft.keep_checkpoints = 10_000_000


def too_many_devices(config, folder):
  config.train_dpo.mesh.fsdp = 64


def no_prompts(config, folder):
  config.evaluate.systems += (f"published=prompts {folder}/none.jsonl",)


def no_template(config, folder):
  config.evaluate.systems += ("glm_4=llm glm_4",)


def no_gpt2(config, folder):
  config.evaluate.systems += ("promptist=promptist",)


QUERIES = (no_queries, "queries", "missing.csv does not exist")
FILES = (no_pipeline, "score_videos: video model", "no model_index.json")
PAIR = (other_weights, "score_videos: reward", "VisionReward_video_qa_select.txt")
DEVICES = (too_many_devices, "devices of train_dpo", "64")


@pytest.mark.parametrize(
  "broken",
  [
    (
      QUERIES,
      FILES,
      DEVICES,
      (cut_weights, "policy", "model.safetensors"),
      (no_key, "teacher of build_sft", "NO_SUCH_KEY"),
      (no_consent, "score_videos: interpreters", "trust_remote_code"),
    ),
    (
      PAIR,
      (no_server, "teacher of build_sft", "127.0.0.1:9"),
      (full_disk, "disk", "GB free, checkpoints need"),
      (no_prompts, "system published", "none.jsonl: no such file"),
      (no_template, "system glm_4", "config.llms.glm_4.template is empty"),
      (no_gpt2, "system promptist", "the hub cannot be reached"),
    ),
    pytest.param(
      (
        (not_on_the_hub, "policy", "the hub cannot be reached"),
        (no_packages, "score_videos: interpreters", "No module named"),
        (
          no_questions,
          "score_videos: reward",
          "name the question file of visionreward",
        ),
      ),
      marks=pytest.mark.slow,
    ),
  ],
)
def test_each_broken_part_has_its_line(config, folder, tmp_path, broken):
  """All problems are found at once, and nothing else is reported."""
  for breaks, _, _ in broken:
    breaks(config, folder)
  found = failed(config, tmp_path)
  for _, part, line in broken:
    assert line in found[part], found
  # The second video model has the same scorer.
  shared = {"evaluate.second: interpreters", "evaluate.second: reward"}
  shared |= {"score_videos: interpreters"} if PAIR in broken else set()
  # Without a policy its checkpoints have no known size.
  assert found.keys() - shared - {"disk"} <= {part for _, part, _ in broken}


@pytest.mark.parametrize(
  ("breaks", "line"),
  [
    (no_weights, "no model.safetensors"),
    (cut_weights, "model.safetensors"),
    (other_shape, "by config.json it should have"),
  ],
)
def test_a_model_is_checked_without_loading_it(config, folder, breaks, line):
  assert "parameters" in checks.model(str(folder / "policy"))
  breaks(config, folder)
  with pytest.raises(errors.UserError, match=line):
    checks.model(str(folder / "policy"))


def test_a_missing_interpreter_is_named(config, folder, tmp_path):
  no_interpreter(config, folder)
  found = failed(config, tmp_path)
  assert "/no/such/python" in found["score_videos: interpreters"]
