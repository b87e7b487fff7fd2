"""A variant runs the stages that its change affects, and shares all others."""

import fnmatch

import pytest
from etils import epath

from configs import budgets, quickstart
from vpo_jax import errors, pipeline, stages


@pytest.fixture
def config():
  return quickstart.get_config()


def steps(config, text):
  """The configs of the stages that a variant runs, by name."""
  name, changed = pipeline._variant(text, config)
  found = pipeline._changed_steps(changed, config, epath.Path("w"), name)
  return {stage.name: config for stage, config in found}


def test_another_loss_trains_once_more_on_the_same_pairs(config):
  found = steps(config, "hinge train_dpo.loss=hinge train_dpo.beta=1")
  assert list(found) == ["train_dpo", "export"]
  dpo = found["train_dpo"]
  assert (dpo.loss, dpo.beta) == ("hinge", 1.0)
  assert dpo.train == "w/merge_pairs/train.json"
  assert dpo.model == "w/train_sft/model"
  assert found["export"].model == "w/hinge/train_dpo/model"


def test_other_rules_for_pairs_render_and_score_nothing(config):
  found = steps(config, "near video_pairs.rules.margin=0.1 merge_pairs.text_share=0")
  assert list(found) == ["video_pairs", "merge_pairs", "train_dpo", "export"]
  video, merge = found["video_pairs"], found["merge_pairs"]
  assert video.scores == "w/score_videos/scores.jsonl"
  assert (merge.text, merge.video) == (
    "w/text_pairs/pairs.jsonl",
    "w/near/video_pairs/pairs.jsonl",
  )
  assert merge.text_share == 0.0
  assert found["train_dpo"].train == "w/near/merge_pairs/train.json"


def test_without_the_text_check_the_judgements_are_no_input(config):
  found = steps(config, "all score_videos.text_check=False")
  assert next(iter(found)) == "score_videos"
  assert found["score_videos"].candidates == "w/sample/candidates.jsonl"
  assert found["score_videos"].judged == ""


def test_fewer_candidates_need_all_later_stages(config):
  found = steps(config, "two sample.num_candidates=2")
  assert list(found) == [stage.name for stage in pipeline.stages_for(config)[3:]]
  assert found["sample"].queries == "w/curate/dpo.jsonl"
  assert found["text_pairs"].candidates == "w/two/sample/candidates.jsonl"


def test_groups_are_another_way_to_use_the_same_feedback(config):
  found = steps(config, "grpo export.trained=train_groups train_groups.loss=grpo")
  assert list(found) == ["groups", "train_groups", "export"]
  groups, trained = found["groups"], found["train_groups"]
  assert groups.candidates == "w/sample/candidates.jsonl"
  assert groups.judged == "w/text_pairs/judged.jsonl"
  assert groups.scores == "w/score_videos/scores.jsonl"
  assert trained.train == "w/grpo/groups/train.jsonl"
  assert trained.model == "w/train_sft/model"
  assert found["export"].model == "w/grpo/train_groups/model"


def test_a_budget_of_videos_chooses_before_it_renders(config):
  found = steps(config, "few choose.videos=100 score_videos.videos_per_prompt=2")
  assert list(found)[:2] == ["choose", "score_videos"]
  assert found["choose"].candidates == "w/sample/candidates.jsonl"
  assert found["choose"].videos_per_prompt == 2
  assert found["score_videos"].candidates == "w/few/choose/candidates.jsonl"
  assert found["train_dpo"].train == "w/few/merge_pairs/train.json"
  assert "choose" not in steps(config, "other train_dpo.loss=hinge")


def test_a_base_with_a_budget_is_the_base_of_its_variants(config):
  config.choose.videos = 100
  config.variants = ("hinge train_dpo.loss=hinge", "more choose.videos=200")
  found = pipeline.variant_steps(config, epath.Path("w"))
  names = {name: [stage.name for stage, _ in steps] for name, steps in found.items()}
  assert names["hinge"] == ["train_dpo", "export"]
  assert names["more"][:2] == ["choose", "score_videos"]
  assert "choose" in [stage.name for stage in pipeline.stages_for(config)]


def test_every_input_is_a_key_of_its_stages_config(config):
  for stage in pipeline.STAGES.values():
    for one in stage.inputs_for(config[stage.name]):
      assert one.key in config[stage.name], (stage.name, one.key)


def test_every_execution_key_is_a_key_of_its_stages_config(config):
  for stage in pipeline.STAGES.values():
    keys = stages.flat(config[stage.name].to_dict())
    for pattern in stage.execution_keys_for(config[stage.name]):
      assert fnmatch.filter(keys, pattern), (stage.name, pattern)


@pytest.mark.parametrize(
  ("text", "line"),
  [
    ("hinge", "must be NAME STAGE.KEY=VALUE"),
    ("sample train_dpo.loss=hinge", "not the name of a stage"),
    ("a-b train_dpo.loss=hinge", "must be NAME"),
    ("one report.shown=2", "'report.shown' does not begin with the name of a stage"),
    ("one train_dpo.los=hinge", "one: train_dpo.los=hinge: "),
    ("one train_dpo.batch_size=many", "one: train_dpo.batch_size=many: "),
    ("one export.trained=train_sft", "must be one of train_dpo, train_groups"),
    ("one train_dpo.loss=sigmoid", "one changes nothing"),
  ],
)
def test_wrong_variants_are_one_line(config, text, line):
  with pytest.raises(errors.UserError, match=r"^config.variants: ") as caught:
    steps(config, text)
  assert line in str(caught.value)


def test_diffusion_dpo_adds_a_video_model_for_the_systems_of_figure_5(config):
  comparison = config.evaluate.copy_and_resolve_references()
  pipeline._add_tuned_model(comparison, config, epath.Path("w"))
  tuned, main = comparison.video_models.diffusion_dpo, comparison.video_models.main
  assert tuned.renderer.lora.path == "w/train_diffusion_dpo/lora"
  assert tuned.renderer.preset == main.renderer.preset
  assert main.renderer.lora.path == ""
  assert tuned.systems == ("few_shot", "vpo")
  config.train_diffusion_dpo.method = "full"
  pipeline._add_tuned_model(comparison, config, epath.Path("w"))
  full = comparison.video_models.diffusion_dpo.renderer
  assert (full.model, full.lora.path) == ("w/train_diffusion_dpo/model", "")


def test_every_row_of_the_budgets_is_a_variant():
  config = budgets.get_config()
  found = pipeline.variant_steps(config, epath.Path("w"))
  assert len(found) == len(budgets.METHODS) * len(budgets.BUDGETS)
  for name, of_row in found.items():
    by_stage = {stage.name: config for stage, config in of_row}
    assert by_stage["choose"].videos == int(name.rpartition("_")[2])
    assert by_stage["choose"].per_query == config.sample.num_candidates
    assert by_stage["export"].model.startswith(f"w/{name}/train_")
  few = budgets.get_config("grpo_250")
  assert list(pipeline.variant_steps(few, epath.Path("w"))) == ["grpo_250"]
  with pytest.raises(ValueError, match="must be METHOD_VIDEOS"):
    budgets.get_config("reinforce_250")
