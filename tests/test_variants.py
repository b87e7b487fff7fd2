"""Variants of a run change one thing and share all that comes before it."""

import pytest
from etils import epath

from configs import quickstart
from vpo_jax import errors, pipeline


@pytest.fixture
def config():
  return quickstart.get_config()


def works(config, text):
  name, changed = pipeline._variant(text, config)
  return dict(pipeline._differing(changed, config, epath.Path("w"), name))


def test_another_loss_trains_once_more_on_the_same_pairs(config):
  found = works(config, "hinge train_dpo.loss=hinge train_dpo.beta=1")
  assert list(found) == ["train_dpo", "export"]
  dpo = found["train_dpo"]
  assert (dpo.loss, dpo.beta) == ("hinge", 1.0)
  assert dpo.train == "w/merge_pairs/train.json"
  assert dpo.model == "w/train_sft/model"
  assert found["export"].model == "w/hinge/train_dpo/model"


def test_other_rules_for_pairs_make_no_video_twice(config):
  found = works(config, "near video_pairs.rules.margin=0.1 merge_pairs.text_share=0")
  assert list(found) == ["video_pairs", "merge_pairs", "train_dpo", "export"]
  video, merge = found["video_pairs"], found["merge_pairs"]
  assert video.candidates == "w/sample/candidates.jsonl"
  assert video.bridge.store == "w/video_pairs/store"
  assert (merge.text, merge.video) == (
    "w/text_pairs/pairs.jsonl",
    "w/near/video_pairs/pairs.jsonl",
  )
  assert merge.text_share == 0.0
  assert found["train_dpo"].train == "w/near/merge_pairs/train.json"


def test_fewer_candidates_need_all_that_follows(config):
  found = works(config, "two sample.num_candidates=2")
  assert list(found) == list(pipeline.STAGES)[3:]
  assert found["sample"].queries == "w/curate/dpo.jsonl"
  assert found["text_pairs"].input == "w/two/sample/candidates.jsonl"


def test_every_input_is_a_key_of_its_stages_config(config):
  for name, stage in pipeline.STAGES.items():
    for key, path in stage.inputs.items():
      assert config[name][key] == "" or (name, key) == ("train_sft", "model"), path


@pytest.mark.parametrize(
  ("text", "line"),
  [
    ("hinge", "wants NAME STAGE.KEY=VALUE"),
    ("sample train_dpo.loss=hinge", "no stage's name"),
    ("a-b train_dpo.loss=hinge", "wants NAME"),
    ("one report.shown=2", "no stage of 'report.shown'"),
    ("one train_dpo.los=hinge", "one: train_dpo.los=hinge: "),
    ("one train_dpo.batch_size=many", "one: train_dpo.batch_size=many: "),
    ("one train_dpo.loss=sigmoid", "one changes nothing"),
  ],
)
def test_wrong_variants_are_one_line(config, text, line):
  with pytest.raises(errors.UserError, match=r"^config.variants: ") as caught:
    works(config, text)
  assert line in str(caught.value)
