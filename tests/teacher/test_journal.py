"""A stored reply is never lost and never replaced."""

import os
import subprocess
import sys

import pytest

from vpo_jax import errors
from vpo_jax.teacher import journal as journal_lib

REPLY = journal_lib.Reply("text with 'quotes' and \n lines 马", "stop", False, 10, 5)


def request(model="m", content="hi", sample=0, **parameters):
  messages = ({"role": "user", "content": content},)
  return journal_lib.Request(model, messages, {"temperature": 0.7} | parameters, sample)


def test_a_reply_is_found_after_reopening(tmp_path):
  with journal_lib.Journal(tmp_path / "j.sqlite") as journal:
    assert journal.get(request().key) is None
    assert journal.put(request().key, REPLY) == REPLY
  with journal_lib.Journal(tmp_path / "j.sqlite") as journal:
    assert journal.get(request().key) == REPLY


def test_the_first_reply_is_kept(tmp_path):
  other = journal_lib.Reply("other", "stop", True, 1, 1)
  with (
    journal_lib.Journal(tmp_path / "j.sqlite") as first,
    journal_lib.Journal(tmp_path / "j.sqlite") as second,
  ):
    first.put(request().key, REPLY)
    assert second.put(request().key, other) == REPLY
    assert len(first) == 1


@pytest.mark.parametrize(
  "other",
  [
    request(model="n"),
    request(content="ho"),
    request(sample=1),
    request(temperature=0.8),
    request(seed=1),
  ],
)
def test_the_key_depends_on_every_part_of_a_request(other):
  assert other.key != request().key
  assert request(content=request().messages[0]["content"]).key == request().key


def test_a_killed_process_loses_no_reply(tmp_path):
  code = (
    "import os, sys; sys.path.insert(0, sys.argv[2])\n"
    "import test_journal as t\n"
    "j = t.journal_lib.Journal(sys.argv[1])\n"
    "for i in range(20): j.put(t.request(sample=i).key, t.REPLY)\n"
    "os._exit(9)"
  )
  path = tmp_path / "j.sqlite"
  here = os.path.dirname(__file__)
  process = subprocess.run([sys.executable, "-c", code, str(path), here], check=False)
  assert process.returncode == 9
  with journal_lib.Journal(path) as journal:
    assert len(journal) == 20


def test_an_invalid_journal_is_a_one_line_error(tmp_path):
  path = tmp_path / "j.sqlite"
  path.write_text("not a database, and long enough to be read as a header" * 10)
  with pytest.raises(errors.UserError, match=r"j\.sqlite: journal: file is not a data"):
    journal_lib.Journal(path)
