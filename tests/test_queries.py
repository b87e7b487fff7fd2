"""Queries are read from every format; invalid rows and files are reported."""

import csv
import json
import math

import pytest

from configs import curate as curate_config
from vpo_jax import errors, queries, records
from vpo_jax.curate import table


def _texts(path):
  return [raw.text for raw in queries.read(path)]


USER = {"role": "user", "content": "a cat"}


def _write(folder, name, content):
  path = folder / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


def _vidprom(path, prompts, scores=("0.1",) * 6):
  with path.open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["uuid", "prompt", "time", *queries.TOXICITY])
    for number, prompt in enumerate(prompts):
      table.writerow([number, prompt, "Sun Sep  3 12:27:44 2023", *scores])
  return path


def test_every_format_gives_the_same_queries(tmp_path):
  texts = ['a cat, "napping"', "un chat", "猫 {0} [[start]]"]
  formats = {
    "list.json": json.dumps(texts),
    "rows.json": json.dumps([{"text": query} for query in texts]),
    "rows.jsonl": "\n".join(json.dumps({"prompt": query}) for query in texts),
    "strings.jsonl": "\n".join(json.dumps(query) for query in texts),
    "lines.txt": "\r\n".join(texts) + "\n\n",
    "bom.txt": b"\xef\xbb\xbf" + "\n".join(texts).encode(),
  }
  for name, content in formats.items():
    assert _texts(_write(tmp_path, name, content)) == texts, name
  assert _texts(_vidprom(tmp_path / "vidprom.csv", texts)) == texts


def test_a_released_row_gives_the_query_in_its_template(tmp_path):
  content = (
    'Rewrite it.\n\nUser Query:a dog says "User Query:" -ar 16:9\n\nVideo Prompt:'
  )
  turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "p"}]
  bare = [{"role": "user", "content": "a dog"}]
  rows = [{"messages": turns}, {"messages": bare, "chosen": {}}, {"messages": []}]
  found = list(queries.read(_write(tmp_path, "vpo.json", json.dumps(rows))))
  assert found[0].text == 'a dog says "User Query:" -ar 16:9'
  assert found[1].text == "a dog"
  assert "messages" in found[2].problem


def test_vidprom_fields_keep_commas_quotes_and_newlines(tmp_path):
  prompts = ['a "big" cat, 4k', "first line\nsecond, line", "plain"]
  rows = list(queries.read(_vidprom(tmp_path / "v.csv", prompts)))
  assert [row.text for row in rows] == prompts
  assert rows[0].scores == (0.1,) * 6


def test_a_table_may_lack_some_of_the_scores(tmp_path):
  lines = "prompt,threat,toxicity\na cat,0.2,0.3\na dog,x,0.1\n"
  cat, dog = queries.read(_write(tmp_path, "v.csv", lines))
  assert cat.scores == pytest.approx((0.3, *[math.nan] * 3, 0.2, math.nan), nan_ok=True)
  assert "line 3" in dog.problem


def test_invalid_rows_are_reported_and_valid_ones_are_read(tmp_path):
  good = "1,a cat,now," + ",".join("0" * 6)
  lines = [
    ",".join(["uuid", "prompt", "time", *queries.TOXICITY]),
    good,
    "2,too few",
    "3,a dog,now,high," + ",".join("0" * 5),
    '4,"stray"quote,now,' + ",".join("0" * 6),
    good,
    '5,"cut in the mid',
  ]
  rows = list(queries.read(_write(tmp_path, "v.csv", "\n".join(lines))))
  assert [row.text for row in rows if not row.problem] == ["a cat", "a cat"]
  problems = [row.problem for row in rows if row.problem]
  assert len(problems) == 4
  for problem, part in zip(
    problems, ["line 3 has 2 fields", "line 4", "not CSV", "end of data"], strict=True
  ):
    assert part in problem


def test_null_bytes_and_long_fields_are_read(tmp_path):
  prompts = ["a\x00 cat", "x" * 1_000_000, "a dog"]
  rows = list(queries.read(_vidprom(tmp_path / "v.csv", prompts)))
  assert [row.text for row in rows] == prompts
  assert not any(row.problem for row in rows)


@pytest.mark.parametrize("query", ['"a cat, a dog"', "a cat"])
def test_an_unclosed_quote_loses_only_its_own_line(tmp_path, query):
  good = [f"{n},{query},now," + ",".join("0" * 6) for n in range(40)]
  lines = [",".join(["uuid", "prompt", "time", *queries.TOXICITY]), *good]
  lines.insert(20, '99,"cut in the mid')
  rows = list(queries.read(_write(tmp_path, "v.csv", "\n".join(lines) + "\n")))
  assert [row.text for row in rows if not row.problem] == [query.strip('"')] * 40
  (bad,) = [row for row in rows if row.problem]
  assert bad.problem.startswith("line 21: not CSV")


def test_bytes_that_are_not_utf8_are_read_as_windows_1252(tmp_path):
  path = _write(tmp_path, "q.txt", b"caf\xe9 at night\n\x81\xff broken\nplain\n")
  rows = list(queries.read(path))
  assert rows[0].text == "café at night"
  assert "damaged" in rows[1].problem
  assert rows[2].text == "plain"


@pytest.mark.parametrize("encoding", ["gbk", "koi8-r", "shift-jis"])
def test_other_encodings_are_not_read_as_windows_1252(tmp_path, encoding):
  text = "кот на доске" if encoding == "koi8-r" else "一只猫在滑板上"
  text = text.replace("只", "匹") if encoding == "shift-jis" else text
  path = _write(tmp_path, "q.txt", text.encode(encoding, "replace") + b"\nplain\n")
  bad, good = queries.read(path)
  assert bad.problem == "damaged: neither UTF-8 nor Windows-1252"
  assert good.text == "plain"


@pytest.mark.parametrize(
  ("messages", "text"),
  [
    ([{"role": "system", "content": "Be brief."}, USER], "a cat"),
    ([{"role": "user", "content": "Hi"}, {"role": "assistant"}, USER], "a cat"),
    ([USER, {"role": "assistant", "content": "A cat sits."}], "a cat"),
    ([{"role": "user", "content": [{"type": "text", "text": "a cat"}]}], "a cat"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], None),
    ([{"role": "system", "content": "Be brief."}], None),
    ("a cat", None),
  ],
)
def test_the_query_of_messages_is_the_last_user_turn(tmp_path, messages, text):
  path = _write(tmp_path, "q.json", json.dumps([{"messages": messages}]))
  (row,) = queries.read(path)
  assert row.text == text if text else row.problem.startswith("messages without")


def test_null_fields_count_as_missing(tmp_path):
  """As pandas writes them."""
  rows = [{"id": None, "text": text, "flags": None} for text in ("a cat", "a dog")]
  found, aside = queries.load(_write(tmp_path, "q.json", json.dumps(rows)))
  assert [row.id for row in found] == [records.row_id(row.text) for row in found]
  assert not aside


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("q.txt", "a cat\n".encode("utf-16-le"), "UTF-16"),
    ("q.csv", "prompt\na cat\n".encode("utf-16-be"), "UTF-16"),
    ("q.jsonl", '{"text": "a"}\n{"text": \n', "q.jsonl:2: not JSON"),
    ("q.json", '["a",\n"b"', "q.json:2: not JSON"),
    ("q.json", '{\n"text": "a"}', "one JSON value per line"),
    ("q.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "byte 27 is not UTF-8"),
    ("q.json", "[" * 100_000, "nested"),
    ("q.csv", "uuid,caption\n1,a cat\n", "none of the columns"),
    ("q.csv", "", "none of the columns"),
    ("q.csv", 'uuid,"prompt\n1,a cat\n', "q.csv:1: the first line is not CSV"),
    ("q.parquet", "", ".parquet"),
    ("q.txt", b"\xff\xfea\x00", "UTF-16"),
  ],
)
def test_an_unreadable_file_is_reported_with_the_line(tmp_path, name, content, message):
  path = _write(tmp_path, name, content)
  with pytest.raises(errors.UserError, match=message):
    list(queries.read(path))


def test_a_missing_file_is_reported():
  with pytest.raises(errors.UserError, match="no such file"):
    list(queries.read("/nowhere/queries.json"))


def test_rows_without_text_or_with_a_wrong_category_are_invalid(tmp_path):
  rows = [{"caption": "a"}, 7, {"text": "a", "category": "unsafe"}, {"text": "b"}]
  found = list(queries.read(_write(tmp_path, "q.json", json.dumps(rows))))
  assert [bool(row.problem) for row in found] == [True, True, True, False]


def test_load_keeps_ids_categories_and_flags(tmp_path):
  kept = records.Query("an id", "a cat", "safety", "-neg blurry")
  records.write(tmp_path / "ours.jsonl", [kept])
  assert queries.load(tmp_path / "ours.jsonl") == ([kept], [])
  row = {"messages": [{"role": "user", "content": "User Query:a dog\n\nVideo Prompt:"}]}
  path = _write(tmp_path, "vpo.json", json.dumps([row, {"text": "a hen"}]))
  assert queries.load(path)[0] == [
    records.Query(records.row_id(text), text) for text in ("a dog", "a hen")
  ]


def test_invalid_and_repeated_rows_are_set_aside_with_a_reason(tmp_path):
  rows = ["a cat", " a cat ", " ", 7, {"text": "a dog", "id": "1"}]
  rows += [{"text": "a hen", "id": "1"}, {"text": "an owl", "flags": 3}]
  found, aside = queries.load(_write(tmp_path, "q.json", json.dumps(rows)))
  assert [query.text for query in found] == ["a cat", "a dog"]
  reasons = ["repeats", "empty", "no text under", "has the id of", "flags 3"]
  for row, reason in zip(aside, reasons, strict=True):
    assert row.reason.startswith(reason)
  with pytest.raises(errors.UserError, match="no valid query; the first row: empty"):
    queries.load(_write(tmp_path, "q.json", '[" "]'))


def test_moved_flags_follow_the_settings_of_a_later_curation():
  config = curate_config.get_config()
  raw = queries.Raw("a cat", flags="-ar 1:1")
  for how, text, flags in (("keep", "a cat -ar 1:1", ""), ("move", "a cat", "-ar 1:1")):
    config.flags = how
    row = table.Measure(config)([raw]).row(0, named=True)
    assert (row["text"], row["flags"]) == (text, flags)
