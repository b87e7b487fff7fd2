"""JSON and JSON Lines of any origin."""

import pytest

from vpo_jax import errors, json_input

SMILE = '"\\ud83d\\ude00"'  # both halves of a pair, escaped


def write(tmp_path, content):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_lines_end_at_a_newline_only(tmp_path, separator):
  path = write(tmp_path, f'{{"a": "x{separator}y"}}\n{{"a": "z"}}\n')
  found = [(row.place, row.value["a"]) for row in json_input.rows(path)]
  assert found == [("line 1", f"x{separator}y"), ("line 2", "z")]


@pytest.mark.parametrize(
  "content", ['{"a": 1}\r\n\r\n{"a": 2}', '[{"a": 1},\n {"a": 2}]']
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lists_and_lines_are_read_with_and_without_a_byte_order_mark(
  tmp_path, content, mark
):
  path = write(tmp_path, mark + b"\n" + content.encode())
  assert [row.value["a"] for row in json_input.rows(path)] == [1, 2]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("start", ['{"a": "x"}\n', "[\n"])
def test_another_encoding_is_one_line_with_the_byte(tmp_path, mark, start):
  before = mark + start.encode() + b'{"a": "caf'
  path = write(tmp_path, before + b'\xe9"}\n')
  message = rf"rows.jsonl: byte {len(before)} is not UTF-8"
  with pytest.raises(errors.UserError, match=message):
    list(json_input.rows(path))


def test_utf16_is_named(tmp_path):
  path = write(tmp_path, '{"a": 1}\n'.encode("utf-16"))
  with pytest.raises(errors.UserError, match="UTF-16 text; save it as UTF-8"):
    list(json_input.rows(path))


@pytest.mark.parametrize("escape", ["\\ud83d", "\\ude00", "\\uDE00\\ud83d", "a\\uD800"])
@pytest.mark.parametrize("form", ['{{"a": {}}}\n{}', '[{{"a": {}}}, {}]'])
def test_half_of_a_surrogate_pair_is_a_problem_of_its_row(tmp_path, escape, form):
  path = write(tmp_path, form.format(f'["{escape}"]', SMILE))
  bad, good = json_input.rows(path)
  assert "surrogate" in bad.problem
  assert "\ufffd" in bad.value["a"][0]
  str(bad.value).encode()
  assert good == json_input.Row(good.place, "\U0001f600")


def test_an_escaped_backslash_is_no_surrogate(tmp_path):
  (row,) = json_input.rows(write(tmp_path, '"\\\\ud83d"'))
  assert row == json_input.Row("line 1", "\\ud83d")


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ('{"a": 1}\n{"a": \n', "rows.jsonl:2: not JSON: Expecting value"),
    ('{\n"a": 1\n}', "rows.jsonl:1: not JSON: .*one JSON value per line"),
    ("[1,\n2", "rows.jsonl:2: not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("9" * 5_000, "rows.jsonl:1: not JSON: Exceeds the limit"),
  ],
)
def test_what_is_not_json_is_one_line(tmp_path, content, message):
  path = write(tmp_path, content)
  with pytest.raises(errors.UserError, match=message) as raised:
    list(json_input.rows(path))
  assert "\n" not in str(raised.value)


def test_a_folder_and_a_missing_file_are_one_line(tmp_path):
  with pytest.raises(errors.UserError, match="no such file"):
    json_input.value(tmp_path / "nothing.json")
  with pytest.raises(errors.UserError, match="cannot be read"):
    json_input.value(tmp_path)


def test_an_empty_file_has_no_rows(tmp_path):
  assert list(json_input.rows(write(tmp_path, b"\xef\xbb\xbf \n\n"))) == []
