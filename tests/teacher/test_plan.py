"""The cost is estimated before a run and limited during it."""

import pytest
import test_build_sft

from vpo_jax import errors
from vpo_jax.teacher import journal, totals

queries = test_build_sft.queries
stage_config = test_build_sft.stage_config
teach = test_build_sft.teach
run = test_build_sft.run


@pytest.fixture
def priced(stage_config):
  stage_config.teacher.prices = ("m 2.50 10",)
  return stage_config


def test_a_dry_run_sends_and_writes_nothing(
  served, priced, queries, tmp_path, capsys, monkeypatch
):
  monkeypatch.delenv("TEST_TEACHER_KEY")
  priced.teacher.dry_run = True
  server = served(teach())
  planned = run(priced, server, tmp_path)
  assert not server.requests
  assert not (tmp_path / "build_sft").exists()
  assert (planned["least"]["calls"], planned["most"]["calls"]) == (8, 12)
  printed = " ".join(capsys.readouterr().err.split())
  assert "4 rows with m: 8 calls" in printed
  assert (
    f"${planned['least']['cost_usd']:,.2f} if no prompt is flawed, 12 calls" in printed
  )


def test_a_dry_run_counts_only_replies_missing_from_the_journal(
  served, priced, queries, tmp_path
):
  priced.teacher.journal = str(tmp_path / "shared.sqlite")
  server = served(teach(flawed=["boats"]))
  run(priced, server, tmp_path)
  sent = len(server.requests)
  priced.teacher.dry_run = True
  priced.queries = str(tmp_path / "curate" / "sft.jsonl")
  planned = run(priced, server, tmp_path / "another_run")
  for bound in ("least", "most"):
    assert (planned[bound]["calls"], planned[bound]["journal_hits"]) == (0, 9)
  assert len(server.requests) == sent


def test_the_actual_cost_is_within_the_estimates(served, priced, queries, tmp_path):
  script = teach(flawed=["boats"])

  def counted(number, body):
    characters = sum(len(m["content"]) for m in body["messages"])
    text = script(number, body)
    return test_build_sft.faulty.completion(text, usage=(characters // 4, 160))

  priced.teacher.dry_run = True
  planned = run(priced, served(counted), tmp_path)
  priced.teacher.dry_run = False
  spent = run(priced, served(counted), tmp_path)["cost_usd"]
  assert planned["least"]["cost_usd"] * 0.9 < spent
  assert spent < planned["most"]["cost_usd"] * 1.1


def test_max_cost_stops_the_run_and_a_higher_limit_continues_it(
  served, priced, queries, tmp_path
):
  priced.teacher.parallel = 1
  each = (10 * 2.5 + 5 * 10) / 1e6  # the usage that the server reports for a reply
  priced.teacher.max_cost = 2.5 * each
  server = served(teach())
  with pytest.raises(
    errors.UserError, match=r"stopped at \$0\.00: config\.teacher\.max"
  ):
    run(priced, server, tmp_path)
  assert len(server.requests) == 3
  priced.teacher.max_cost = 0.0
  counts = run(priced, server, tmp_path)
  assert len(server.requests) == counts["calls"] + 3 == 8
  assert counts["cost_usd"] == pytest.approx(8 * each, abs=1e-4)


def test_a_model_has_the_price_of_the_longest_matching_name(config):
  config.prices = ("gpt-4o 2.5 10", "gpt-4o-mini 0.15 0.6")
  for model, price in (
    ("gpt-4o", (2.5, 10)),
    ("gpt-4o-2024-08-06", (2.5, 10)),
    ("gpt-4o-mini-2024-07-18", (0.15, 0.6)),
    ("gpt-4", None),
  ):
    config.model = model
    assert totals.start(config).price == price
  counted = totals.Totals((2.5, 10))
  counted.add(journal.Reply("", "stop", False, 1_000_000, 500_000), sent=True)
  assert counted.cost == 7.5
  assert "$7.50" in counted.note()


@pytest.mark.parametrize(
  ("prices", "message"),
  [((), "no price for model 'm'"), (("m 1",), "'m 1' is not a model and two prices")],
)
def test_a_cost_limit_without_a_price_sends_nothing(
  served, priced, queries, tmp_path, prices, message
):
  priced.teacher.max_cost = 1.0
  priced.teacher.prices = prices
  server = served(teach())
  with pytest.raises(errors.UserError, match=message):
    run(priced, server, tmp_path)
  assert not server.requests


def test_a_second_critique_sets_flawed_refinements_aside(
  served, priced, queries, tmp_path
):
  priced.second_critique = True
  server = served(teach(flawed=["boats", "cats", "Better"]))
  counts = run(priced, server, tmp_path)
  assert (counts["examples"], counts["set_aside"]) == (2, 2)
  assert counts["calls"] == 4 + 4 + 2 + 2
  assert all(
    row.reason.startswith("flawed: the refinement was rejected too: Steps.")
    for row in test_build_sft.aside(tmp_path)
  )
