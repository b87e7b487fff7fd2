import json
import pathlib
import subprocess
import sys

import polars as pl
import pytest
import vidprom

from configs import curate as curate_config
from vpo_jax import errors, queries, records, stages
from vpo_jax.curate import curate, table

_SPLITS = ("sft", "dpo", "test")


ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def config():
  config = curate_config.get_config()
  config.sizes.update(
    sft_general=110,
    sft_safety=12,
    dpo_general=40,
    dpo_safety=6,
    test_general=20,
    test_safety=4,
  )
  return config


def _ids(folder):
  return {
    name: [query.id for query in records.read(folder / f"{name}.jsonl", records.Query)]
    for name in _SPLITS
  }


def test_the_shipped_set_fills_the_quickstarts_splits(tmp_path, config):
  counts = stages.run(curate.STAGE, config, tmp_path)
  ids = _ids(tmp_path / "curate")
  assert {name: len(part) for name, part in ids.items()} == {
    "sft": 122,
    "dpo": 46,
    "test": 24,
  }
  every = [one for part in ids.values() for one in part]
  assert len(set(every)) == len(every)
  dropped = sum(n for key, n in counts.items() if key.startswith("dropped_"))
  assert counts["read"] == counts["set_aside"] + dropped + counts["kept"]
  assert counts["self_bleu_after"] <= counts["self_bleu_before"]


def test_the_shipped_set_is_large_varied_and_has_unsafe_queries():
  rows = list(queries.read(queries.SHIPPED))
  assert sum(row.category == "general" for row in rows) >= 240
  assert sum(row.category == "safety" for row in rows) >= 30
  assert len({row.text for row in rows}) == len(rows)


def test_a_finished_stage_is_not_run_again(tmp_path, config, monkeypatch):
  counts = stages.run(curate.STAGE, config, tmp_path)
  monkeypatch.setattr(
    queries, "read", lambda _: pytest.fail("the input was read again")
  )
  assert stages.run(curate.STAGE, config, tmp_path) == counts


def test_a_continued_run_gives_the_files_of_an_unbroken_one(
  tmp_path, config, monkeypatch
):
  monkeypatch.setattr(curate, "_BATCH", 50)
  stages.run(curate.STAGE, config, tmp_path / "unbroken")
  real = table.Measure.__call__
  calls = []

  def fails_at_the_fourth(self, batch):
    calls.append(len(batch))
    if len(calls) == 4:
      raise KeyboardInterrupt
    return real(self, batch)

  monkeypatch.setattr(table.Measure, "__call__", fails_at_the_fourth)
  with pytest.raises(KeyboardInterrupt):
    stages.run(curate.STAGE, config, tmp_path / "killed")
  stages.run(curate.STAGE, config, tmp_path / "killed")
  assert len(calls) == 4 + 8 - 3  # the three measured batches are not repeated
  for name in [*(f"{split}.jsonl" for split in _SPLITS), "rows.parquet"]:
    killed = (tmp_path / "killed" / "curate" / name).read_bytes()
    assert killed == (tmp_path / "unbroken" / "curate" / name).read_bytes()


def test_the_order_of_the_input_does_not_matter(tmp_path, config):
  rows = [json.loads(line) for line in queries.SHIPPED.read_text().splitlines()]
  ids = []
  for number, order in enumerate([rows, rows[::-1]]):
    config.queries = str(tmp_path / f"{number}.json")
    (tmp_path / f"{number}.json").write_text(json.dumps(order))
    stages.run(curate.STAGE, config, tmp_path / str(number))
    ids.append(_ids(tmp_path / str(number) / "curate"))
  assert ids[0] == ids[1]


def test_invalid_rows_are_set_aside(tmp_path, config):
  good = [json.loads(line) for line in queries.SHIPPED.read_text().splitlines()]
  path = tmp_path / "q.json"
  path.write_text(json.dumps([*good, {"caption": "no"}, "", "x" * 20_000]))
  config.queries = str(path)
  counts = stages.run(curate.STAGE, config, tmp_path)
  aside = list(records.read(tmp_path / "curate" / "set_aside.jsonl", records.SetAside))
  assert counts["set_aside"] == len(aside) == 3
  assert all(row.reason for row in aside)


def test_the_error_of_sampled_references_is_reported(tmp_path, config):
  config.diversity.references = 100
  sampled = stages.run(curate.STAGE, config, tmp_path / "sampled")
  config.diversity.references = 1000
  exact = stages.run(curate.STAGE, config, tmp_path / "exact")
  assert exact["self_bleu_before_error"] == 0
  corrected = sampled["self_bleu_before"] + sampled["self_bleu_before_error"]
  assert sampled["self_bleu_before_error"] > 0
  # The error is measured on all rows here, so it is exact.
  assert corrected == pytest.approx(exact["self_bleu_before"], abs=2e-4)


def test_a_damaged_vidprom_loses_only_its_invalid_rows(tmp_path, config):
  path = vidprom.write(tmp_path / "v.csv", 2000)
  zeros = ",".join("0" * 6)
  rows = path.read_text().splitlines(keepends=True)
  rows[1:1] = [
    f"1,{'x ' * 500_000},now,{zeros}\n",  # 1 MB
    f"2,nulls\x00 in a calm sea at noon,now,{zeros}\n",
    f"3,\x00,now,{zeros}\n",
    "4,too few\n",
  ]
  path.write_text("".join(rows) + '5,"cut in the mid')
  config.queries = str(path)
  counts = stages.run(curate.STAGE, config, tmp_path)
  aside = list(records.read(tmp_path / "curate" / "set_aside.jsonl", records.SetAside))
  assert counts["read"] == 2000 + 5
  assert counts["set_aside"] == len(aside)
  assert {row.reason.partition(":")[0] for row in aside} == {
    "1000000 characters long",
    "empty",
    "line 5 has 2 fields, the first line has 9",
    f"line {path.read_text().count(chr(10)) + 1}",  # the truncated one
  }
  kept = pl.read_parquet(tmp_path / "curate" / "rows.parquet")["text"]
  assert "nulls in a calm sea at noon" in kept


@pytest.mark.parametrize(
  "rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=str
)
def test_many_identical_rows_become_one(tmp_path, config, rows):
  path = tmp_path / "q.txt"
  shipped = [row.text for row in queries.read(queries.SHIPPED)]
  path.write_text("\n".join(["the same old query"] * rows + shipped))
  config.queries = str(path)
  counts = stages.run(curate.STAGE, config, tmp_path)
  assert counts["dropped_duplicate"] >= rows - 1
  table = pl.read_parquet(tmp_path / "curate" / "rows.parquet")
  same = table.filter(text="the same old query")
  assert same["reason"].null_count() == 1


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"flags": "remove"}, "flags='remove'"),
    ({"near.threshold": 1.5}, "near.threshold=1.5"),
    ({"sizes.sft_general": -1}, "sizes.sft_general=-1"),
    ({"near.permutations": 0}, "near.permutations=0"),
    ({"engine": "spark"}, "engine='spark'"),
  ],
)
def test_an_invalid_config_value_is_reported(tmp_path, config, change, message):
  config.update_from_flattened_dict(change)
  with pytest.raises(errors.UserError, match=message):
    stages.run(curate.STAGE, config, tmp_path)
  assert not (tmp_path / "curate").exists()


@pytest.mark.parametrize(
  "change",
  [{"rules.min_words": 1000}, {"rules.max_special": 0.0, "rules.max_words": 0}],
  ids=str,
)
def test_rules_that_drop_every_row_are_reported(tmp_path, config, change):
  config.update_from_flattened_dict(change)
  with pytest.raises(errors.UserError, match="sft split is empty: 0 rows"):
    stages.run(curate.STAGE, config, tmp_path)


def test_an_empty_file_is_reported(tmp_path, config):
  config.queries = str(tmp_path / "q.txt")
  (tmp_path / "q.txt").write_text("\n\n")
  with pytest.raises(errors.UserError, match="no query"):
    stages.run(curate.STAGE, config, tmp_path)


@pytest.mark.slow
def test_the_size_of_vidprom_fits_a_small_machine(tmp_path, config):
  """1.67 million rows take at most 10 minutes of CPU and 4 GB, and scale linearly."""
  # A small process starts the measured one: the peak that Linux reports for a process
  # includes its parent's memory at the start, here that of all tests.
  measure = (
    "import json, resource, subprocess, sys\n"
    "subprocess.run(sys.argv[1:], check=True)\n"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))\n"
  )
  seconds, peak = {}, 0
  for rows in (100_000, 1_670_000):
    queries_file = vidprom.write(tmp_path / f"{rows}.csv", rows)
    workdir = tmp_path / str(rows)
    process = subprocess.run(
      [
        *(sys.executable, "-c", measure),
        *(sys.executable, "launch/curate.py", f"--workdir={workdir}"),
        f"--config.queries={queries_file}",
        *(f"--config.sizes.{name}={size}" for name, size in config.sizes.items()),
      ],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      check=True,
    )
    seconds[rows], peak = json.loads(process.stdout.splitlines()[-1])
    assert stages.finished_counts(workdir / "curate")["read"] == rows
  print(f"CPU seconds {seconds}, peak of {peak / 2**20:.1f} GiB")
  assert seconds[1_670_000] < 600
  assert seconds[1_670_000] / 1_670_000 < 1.3 * seconds[100_000] / 100_000
  assert peak < 4_000_000  # KiB


def test_held_out_texts_and_their_likes_are_in_no_split(tmp_path, config):
  rows = [row.text for row in queries.read(queries.SHIPPED)][:40]
  (tmp_path / "one.txt").write_text("\n".join(rows[:20]))
  near = [f"{text.upper()}!" for text in rows[20:30]]
  near += [text.replace(" ", "  ") + " ." for text in rows[30:]]
  (tmp_path / "two.txt").write_text("\n".join(near))
  before = stages.run(curate.STAGE, config, tmp_path / "before")
  config.held_out = (str(tmp_path / "*.txt"),)
  counts = stages.run(curate.STAGE, config, tmp_path / "after")
  assert before["dropped_held_out"] == 0
  assert counts["dropped_held_out"] >= 35
  assert counts["read"] == before["read"]
  kept = {
    query.text
    for name in _SPLITS
    for query in records.read(
      tmp_path / "after/curate" / f"{name}.jsonl", records.Query
    )
  }
  assert not kept & set(rows)
  config.held_out = (str(tmp_path / "none*.txt"),)
  with pytest.raises(errors.UserError, match=r"held_out: .*none\*\.txt: no such file"):
    stages.run(curate.STAGE, config, tmp_path / "after")
