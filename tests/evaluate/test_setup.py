"""A comparison says which models it is of, and whose numbers the paper has."""

import pytest
from etils import epath

from configs import evaluate as evaluate_config
from configs import miniature as miniature_config
from configs import paper as paper_config
from configs import rehearsal as rehearsal_config
from vpo_jax import errors, files, stages
from vpo_jax.evaluate import evaluate, setup, systems


@pytest.mark.parametrize(
  ("preset", "model", "expected"),
  [
    ("cogvideox-2b", "", "CogVideoX-2B"),
    ("cogvideox-5b", "", "CogVideoX-5B"),
    ("cogvideox-5b", "/models/CogVideoX-5b", "CogVideoX-5B"),
    ("cogvideox-2b", "/models/CogVideoX-5b", "CogVideoX-5B"),
    ("cogvideox-2b", "/models/my-finetuned-2b", ""),
    ("wan-1.3b", "", ""),
    ("open-sora-1.2", "/src/Open-Sora", "Open-Sora 1.2"),
  ],
)
def test_the_weights_decide_which_numbers_of_the_paper_match(preset, model, expected):
  config = evaluate_config.get_config().video_models.main
  config.renderer.update(preset=preset, model=model)
  assert setup.paper_model(config) == expected


def test_stand_ins_have_no_numbers_of_the_paper():
  for config in (miniature_config.get_config(), rehearsal_config.get_config()):
    models = config.evaluate.video_models
    assert setup.paper_models(config.evaluate, list(models)) == {}
    assert config.evaluate.note


def test_every_model_is_named_with_its_revision(tmp_path):
  config = paper_config.get_config()
  config.renderer.revision, config.scorer.revision = "abc", "def"
  files.write_json(
    tmp_path / "train_sft" / stages.MANIFEST,
    {"config": {"model": "some/policy"}, "inputs": {"model": {"fingerprint": "123"}}},
  )
  chosen = systems.parse(config.evaluate.systems)
  rows = setup.describe(config.evaluate, chosen, epath.Path(tmp_path))
  assert [tuple(row.values()) for row in rows] == [
    ("policy", "some/policy", "123"),
    ("teacher", "gpt-4o (OpenAI)", ""),
    ("judge of the prompts", "gpt-4o (OpenAI)", ""),
    ("video model main", "THUDM/CogVideoX-2b (diffusers)", "abc"),
    ("reward of main's videos", "THUDM/VisionReward-Video (visionreward)", "def"),
  ]


def test_baselines_name_their_models(tmp_path):
  config = evaluate_config.get_config()
  config.promptist.revision = "abc"
  rows = ("a=query", "b=promptist", "c=prompt_a_video m/x template=t.txt")
  found = setup.describe(config, systems.parse(rows), epath.Path(tmp_path))
  assert [tuple(row.values()) for row in found][:2] == [
    ("model of b", "microsoft/Promptist (Promptist)", "abc"),
    ("model of c", "m/x (Prompt-A-Video)", ""),
  ]


def test_without_a_video_model_one_line_says_what_to_name(tmp_path):
  config = evaluate_config.get_config()
  config.queries = str(tmp_path / "queries.jsonl")
  (tmp_path / "queries.jsonl").write_text('{"id": "1", "text": "a cat"}\n')
  with pytest.raises(errors.UserError, match=r"video_models\.main\.renderer\.preset"):
    stages.run(evaluate.STAGE, config, tmp_path)
