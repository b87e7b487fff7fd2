"""The miniature's queries and teacher in the stages of the project."""

from configs import build_sft as build_sft_config
from configs import curate as curate_config
from configs import miniature
from torch_bridge.miniature import lexicon, queries, teacher
from vpo_jax import records, stages
from vpo_jax.curate import curate
from vpo_jax.teacher import build_sft


def test_queries_are_curated_and_answered(tmp_path):
  queries.main([f"--out={tmp_path / 'queries.jsonl'}", "--count=250"])
  config = curate_config.get_config()
  config.update(queries=str(tmp_path / "queries.jsonl"), card=False)
  config.sizes.update(
    sft_general=34,
    sft_safety=6,
    dpo_general=10,
    dpo_safety=2,
    test_general=10,
    test_safety=2,
  )
  stages.run(curate.STAGE, config, tmp_path)
  halves = [
    {row.text for row in records.read(tmp_path / "curate" / name, records.Query)}
    for name in ("sft.jsonl", "dpo.jsonl", "test.jsonl")
  ]
  assert [len(half) for half in halves] == [40, 12, 12]
  assert len(set.union(*halves)) == 64

  config = build_sft_config.get_config()
  miniature.teacher(config.teacher)
  config.teacher.server_options.update(
    missed=0.5, harm_left=1.0, overlooked=0.0, harm_overlooked=0.0
  )
  counts = stages.run(build_sft.STAGE, config, tmp_path)
  assert counts["examples"] == 40
  rows = list(records.read(tmp_path / "build_sft" / "sft.jsonl", records.SftExample))
  flawed = [row for row in rows if teacher.flaws(row.query, row.generated)]
  assert len(flawed) == counts["refined"] >= 10
  assert all("hazard" in lexicon.read(r.query) for r in rows if r.category == "safety")
  assert not any(teacher.flaws(row.query, row.prompt) for row in rows)
