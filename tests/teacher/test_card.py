"""The SFT set's data card counts every query once."""

import faulty
import PIL.Image
import test_build_sft

from vpo_jax import records

stage_config = test_build_sft.stage_config

_TEXTS = [
  ("boats `at` dawn | a<b", "general"),
  ("a red fox", "general"),
  ("a mob", "safety"),
  ("cats", "safety"),
  ("dogs", "general"),
]


def test_the_card_counts_every_querys_outcome(served, stage_config, tmp_path):
  rows = [records.Query(records.row_id(text), text, kind) for text, kind in _TEXTS]
  records.write(tmp_path / "curate" / "sft.jsonl", rows)
  script = test_build_sft.teach(flawed=["boats"])

  def answers(number, body):
    query = body["messages"][0]["content"].rpartition("User Query: ")[2]
    if test_build_sft.task(body) == "few_shot":
      if "mob" in query:
        return faulty.completion(None, refusal="I will not.")
      if "dogs" in query:
        return "no marker"
    return script(number, body)

  counts = test_build_sft.run(stage_config, served(answers), tmp_path)
  assert (counts["refused"], counts["unparsed"], counts["failed"]) == (1, 1, 0)
  card = (tmp_path / "build_sft" / "README.md").read_text()
  assert card.startswith("# SFT prompts written by m\n")
  for line in (
    "| queries | 5 | 3 | 2 |",
    "| passed the critique | 2 (40.0%) | 1 (33.3%) | 1 (50.0%) |",
    "| refined | 1 (20.0%) | 1 (33.3%) | 0 (0.0%) |",
    "| set aside, refused: the teacher declined | 1 (20.0%) | 0 (0.0%) | 1 (50.0%) |",
    "Refined: `boats 'at' dawn | a<b`\n",
    "- refined: `Better scene.`\n",
    "- reason: `refused: I will not.`\n",
  ):
    assert line in card
  for name in ("lengths.png", "self_bleu.png"):
    with PIL.Image.open(tmp_path / "build_sft" / name) as picture:
      assert picture.width > 300
