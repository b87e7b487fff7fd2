"""Published prompts belong to the queries that they were written for."""

import json

import pytest

from tests.evaluate import test_evaluate
from vpo_jax import errors, json_input, records, stages
from vpo_jax.evaluate import evaluate, measures
from vpo_jax.evaluate.systems import prompts_file

config = test_evaluate.config  # the miniature's, with 36 queries in queries.jsonl


def test_rows_are_matched_by_the_querys_text(place, tmp_path):
  rows = [
    {"query": "a dog ", "prompt": " A brown dog. "},
    {"text": "a bird", "prompt": "A blue bird."},
    {"text": "a dog", "prompt": "Another dog."},
  ]
  lines = "\n".join(map(json.dumps, rows))
  (tmp_path / "long.jsonl").write_text(lines)
  (tmp_path / "long.json").write_text(json.dumps(rows))
  for name in ("long.jsonl", "long.json"):
    assert place.write(f"long=prompts {tmp_path / name}") == {"1": "A brown dog."}


def test_lines_follow_a_file_of_queries(place, tmp_path):
  (tmp_path / "short.txt").write_text("a cat\r\na cat\u2028sits\r\na dog\r\n")
  (tmp_path / "long.txt").write_text("A cat.\nA sitting cat.\nA dog.\n")
  row = f"long=prompts {tmp_path / 'long.txt'} queries={tmp_path / 'short.txt'}"
  assert place.write(row) == {"0": "A cat.", "1": "A dog."}


@pytest.mark.parametrize(
  ("long", "short", "line"),
  [
    ("A.\nB.\n", "a\n", r"2 lines, but .*short\.txt has 1"),
    ("A.\n\nB.\n", "a\nb\n", r"long\.txt:2: the line is empty"),
    ("", "a\n", r"long\.txt: the file is empty"),
    ("A.\n", "", r"short\.txt: the file is empty"),
  ],
)
def test_files_that_do_not_fit_are_one_line(tmp_path, long, short, line):
  (tmp_path / "long.txt").write_text(long)
  (tmp_path / "short.txt").write_text(short)
  with pytest.raises(errors.UserError, match=line):
    prompts_file.read(tmp_path / "long.txt", tmp_path / "short.txt")


def test_wrong_rows_are_one_line(tmp_path):
  path = tmp_path / "long.jsonl"
  for row in ('{"query": "a"}', '{"prompt": "b"}', '"a"', '{"text": 1, "prompt": "b"}'):
    path.write_text(f'{{"text": "a", "prompt": "b"}}\n{row}\n')
    with pytest.raises(errors.UserError, match="line 2: needs the texts"):
      prompts_file.read(path)
  with pytest.raises(errors.UserError, match="no such file"):
    prompts_file.read(tmp_path / "none.jsonl")
  with pytest.raises(errors.UserError, match="name the file of queries"):
    prompts_file.read(tmp_path / "long.txt")


def test_a_file_is_left_out_of_suites_that_it_has_no_query_of(config, tmp_path, capsys):
  """And queries that it lacks are dropped for all systems."""
  asked = list(records.read(config.queries, records.Query))[:8]
  records.write(tmp_path / "queries.jsonl", asked)
  other = [records.Query(f"x{k}", f"a red square {k}") for k in range(3)]
  records.write(tmp_path / "other.jsonl", other)
  long = [{"query": one.text, "prompt": f"{one.text} at dawn"} for one in asked[2:]]
  (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, long)))
  config.suites = ("test", "query_alignment")
  config.query_alignment.queries = str(tmp_path / "other.jsonl")
  config.systems = ("original=query", "long=prompts long.jsonl", "few_shot=teacher")
  config.sheet.queries = 0
  del config.video_models.second
  stages.run(evaluate.STAGE, config, tmp_path)
  found = json_input.value(tmp_path / "evaluate" / "results.json")
  assert found["systems"]["long"] == {"source": "prompts long.jsonl", "of": ""}
  test, alignment = found["suites"]["test"], found["suites"]["query_alignment"]
  assert (test["systems"], test["dropped"]) == (["original", "long", "few_shot"], 2)
  assert (alignment["systems"], alignment["dropped"]) == (["original", "few_shot"], 0)
  assert measures.find(found, "overall")["queries"] == 6
  said = " ".join(capsys.readouterr().err.split())
  assert "test: long: its file lacks 2 of 8 queries" in said
  assert "query_alignment: long: left out" in said
  page = (tmp_path / "evaluate" / "README.md").read_text()
  assert "`prompts long.jsonl`" in page
  assert "| 8, 2 of them dropped | original, long, few_shot |" in page
