"""Systems on different video models are compared on the same queries."""

import pytest

from configs import evaluate as evaluate_config
from vpo_jax import errors
from vpo_jax.evaluate import combined, figures, measures

ROWS = (
  "standard=few_shot main",
  "diffusion_dpo=few_shot tuned",
  "vpo=vpo main",
  "both=vpo tuned",
)
SYSTEMS, MODELS = ("original", "few_shot", "vpo"), ("main", "tuned")


def _values():
  """Rewards of three queries; "both" is the best, and one query lacks a video."""

  def by_query(*numbers):
    return dict(zip("abc", numbers, strict=False))

  main = {"few_shot": by_query(1.0, 2.0, 3.0), "vpo": by_query(2.0, 2.0, 4.0)}
  tuned = {"few_shot": by_query(1.5, 1.0, 3.5), "vpo": by_query(3.0, 3.0)}
  plain = main | {"original": by_query(0.0, 0.0, 0.0)}
  return [
    measures.Measure("overall", plain, "main"),
    measures.Measure("overall", tuned, "tuned"),
    measures.Measure("dynamic", plain, "main"),
    measures.Measure("dynamic", tuned, "tuned"),
    measures.Measure("aligned", {"few_shot": by_query(1.0, 1.0, 1.0)}, unit="%"),
    measures.Measure("only main", plain, "main"),
  ]


def test_pairs_of_systems_and_video_models_are_compared_on_shared_queries():
  config = evaluate_config.get_config().compare
  config.draws = 100
  chosen = combined.parse(ROWS, SYSTEMS, MODELS)
  found = combined.summarize(_values(), chosen, {}, config)
  assert [row["name"] for row in found] == ["overall", "dynamic"]
  overall = found[0]
  assert overall["queries"] == 2
  assert overall["dropped"] == 1
  means = {name: one["mean"] for name, one in overall["systems"].items()}
  assert means == {"standard": 1.5, "diffusion_dpo": 1.25, "vpo": 2.0, "both": 3.0}
  differences = {(row["one"], row["two"]): row for row in overall["differences"]}
  assert len(differences) == 6
  tuned = differences["standard", "diffusion_dpo"]
  assert (tuned["wins"], tuned["ties"], tuned["losses"]) == (1, 0, 1)
  assert differences["diffusion_dpo", "both"]["wins"] == 2

  places = [one.__dict__ for one in chosen]
  part = combined.figure("test", found, places)
  page = figures.wins(part)
  assert "| both against vpo | 100.0 | 0.0 | 0.0 |" in page
  assert "| both | vpo | tuned | 3.00" in page
  assert "videos of" not in page.splitlines()[0]
  assert "dynamic" in page


def test_rows_that_the_run_does_not_have_are_left_out():
  assert combined.parse(ROWS, SYSTEMS, ("main",)) == []  # one video model
  kept = combined.parse(ROWS, ("vpo",), MODELS)
  assert [one.name for one in kept] == ["vpo", "both"]
  default = evaluate_config.get_config().compare.combinations
  assert len(combined.parse(default, SYSTEMS, ("main", "diffusion_dpo"))) == 4


@pytest.mark.parametrize(
  ("rows", "reason"),
  [
    (("vpo main",), "must be NAME=SYSTEM MODEL"),
    (("a=vpo",), "must be NAME=SYSTEM MODEL"),
    (("a=vpo main", "a=vpo tuned"), "two rows have the same name"),
  ],
)
def test_a_row_of_another_form_is_one_line(rows, reason):
  with pytest.raises(errors.UserError, match=reason):
    combined.parse(rows, SYSTEMS, MODELS)
