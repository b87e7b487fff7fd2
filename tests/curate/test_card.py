import PIL.Image

from configs import curate as curate_config
from vpo_jax import stages
from vpo_jax.curate import curate, split


def test_the_card_counts_every_row_and_shows_each_reason(tmp_path):
  counts = stages.run(curate.STAGE, curate_config.get_config(), tmp_path)
  card = (tmp_path / "curate" / "README.md").read_text()
  for key, number in counts.items():
    if key.startswith("dropped_") and number:
      reason = key.removeprefix("dropped_").replace("_", " ")
      assert f"| {reason} | {number} |" in card
      assert f"\n{reason.capitalize()}:\n" in card
  for name in split.SPLITS:
    safety = counts[f"{name}_safety"]
    assert f"| {name} | {counts[name] - safety} | {safety} |" in card
  assert f"| not judged | 0 | {counts['kept']} |" in card
  for name in ("lengths.png", "self_bleu.png"):
    with PIL.Image.open(tmp_path / "curate" / name) as picture:
      assert picture.width > 300


def test_markdown_in_a_query_is_escaped(tmp_path):
  config = curate_config.get_config()
  config.queries = str(tmp_path / "q.txt")
  hostile = "# title `code` | [link](x) <b>\n"
  (tmp_path / "q.txt").write_text(hostile + "a cat\n")
  config.rules.max_special = 1.0
  config.sizes.update(dict.fromkeys(config.sizes, 0))
  config.sizes.sft_general = 4
  stages.run(curate.STAGE, config, tmp_path)
  card = (tmp_path / "curate" / "README.md").read_text()
  assert "- `# title 'code' | [link](x) <b>`" in card
