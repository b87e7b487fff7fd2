"""A row of config.systems is read, or refused in one line."""

import pytest

from vpo_jax import errors
from vpo_jax.evaluate import systems


def parsed(row):
  return systems.parse(("original=query", row))[1]


@pytest.mark.parametrize(
  ("row", "kind", "target"),
  [
    ("a=query", "query", ""),
    ("a=teacher of original", "teacher", ""),
    ("a=some/model", "model", "some/model"),
    ("a=./llm", "model", "./llm"),
    ("a=prompts my file.jsonl", "prompts", "my file.jsonl"),
    ("a=llm gpt_4o of original", "llm", "gpt_4o"),
    ("a=promptist", "promptist", ""),
    ("a=promptist /models/Promptist", "promptist", "/models/Promptist"),
    ("a=prompt_a_video m/x template=t.txt", "prompt_a_video", "m/x"),
  ],
)
def test_kinds(row, kind, target):
  system = parsed(row)
  assert (system.kind, system.target) == (kind, target)


def test_options():
  assert parsed("a=prompts long.txt queries=short.txt").queries == "short.txt"
  assert parsed("a=prompt_a_video m template=a b.txt").instruction == "a b.txt"
  assert parsed("a=m instruction=x.txt of original").of == "original"
  both = parsed("a=m instruction=x.txt for=wan-1.3b")
  assert (both.source, both.instruction, both.profile) == ("m", "x.txt", "wan-1.3b")


def test_files_of_the_workdir_are_found():
  found = parsed("a=prompts long.txt queries=short.txt").located(
    lambda name: f"/w/{name}"
  )
  assert (found.source, found.queries) == ("prompts /w/long.txt", "/w/short.txt")
  found = parsed("a=llm key").located(lambda name: f"/w/{name}" if name else "")
  assert (found.source, found.instruction) == ("llm key", "")


@pytest.mark.parametrize(
  ("row", "line"),
  [
    ("a b=query", "must be NAME=SOURCE"),
    ("original=m", "must be NAME=SOURCE"),
    ("a=", "must be NAME=SOURCE"),
    ("a=m of b", "no earlier row is named 'b'"),
    ("a=query of original x", "no earlier row"),
    ("a=query twice", "nothing but `of NAME` may follow 'query'"),
    ("a=prompts", "name it, as in a=prompts FILE"),
    ("a=llm", "name it, as in a=llm KEY"),
    ("a=prompt_a_video template=x", "name it, as in a=prompt_a_video MODEL"),
    ("a=prompt_a_video m", "template=FILE is missing"),
    ("a=llm k instruction=x", "only a model has an instruction"),
    ("a=teacher for=x", "only a model writes for a target"),
    ("a=m queries=x", "only a file of prompts has queries"),
    ("a=m template=x", "only prompt_a_video has a template"),
    ("a=prompts f.jsonl of original", "cannot rewrite other prompts"),
  ],
)
def test_wrong_rows_are_one_line(row, line):
  with pytest.raises(errors.UserError, match=line):
    parsed(row)
