"""The journal of the teacher's replies in a bucket."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from vpo_jax import buckets, errors, files
from vpo_jax.teacher import journal

REPLY = journal.Reply("a", "stop", False, 1, 2)


def empty_scratch(bucket):
  shutil.rmtree(buckets.scratch(bucket), ignore_errors=True)


def test_replies_batches_and_id_are_kept_on_another_machine(bucket):
  path = bucket / "run" / "journal.sqlite"
  with journal.Journal(path) as first:
    identity = first.id
    first.put("k", REPLY)
    first.put_batch("b", collected=False)
  empty_scratch(bucket)
  with journal.Journal(path) as second:
    assert second.id == identity
    assert second.get("k") == REPLY
    assert second.batches() == {"b": False}
    second.put("l", REPLY)
  assert buckets.names(bucket) == {"run/journal.sqlite"}


def test_killed_before_a_copy_the_scratch_still_has_the_replies(bucket):
  path = bucket / "journal.sqlite"
  code = (
    "import os, signal, sys\n"
    "from vpo_jax.teacher import journal\n"
    "found = journal.Journal(sys.argv[1])\n"
    "found.put('k', journal.Reply('a', 'stop', False, 1, 2))\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  command = [sys.executable, "-c", code, str(path)]
  assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
  with journal.Journal(path) as found:
    assert found.get("k") == REPLY


def test_replies_of_two_machines_are_united(bucket):
  """One was killed; the run continued on another, and then comes back."""
  path, scratch = bucket / "journal.sqlite", buckets.scratch(bucket)
  with journal.Journal(path) as first:
    first.put("k", REPLY)
  shutil.copytree(scratch, f"{scratch}-first")
  empty_scratch(bucket)
  with journal.Journal(path) as second:
    second.put("l", REPLY)
    second.put_batch("b", collected=True)
  empty_scratch(bucket)
  shutil.move(f"{scratch}-first", scratch)
  with journal.Journal(path) as found:
    assert found.get("k") == found.get("l") == REPLY
    assert found.batches() == {"b": True}


def test_a_copy_is_made_in_the_meantime(bucket, monkeypatch):
  path = bucket / "journal.sqlite"
  monkeypatch.setattr(journal, "_STORE_S", 0.0)
  with journal.Journal(path) as first:
    first.put("k", REPLY)
    empty = os.path.join(os.path.dirname(buckets.scratch(bucket)), "other")
    monkeypatch.setenv("VPO_JAX_SCRATCH", empty)
    with journal.Journal(path) as second:
      assert second.get("k") == REPLY


def test_what_is_no_journal_is_one_line(bucket):
  files.write_text(bucket / "journal.sqlite", "text")
  with pytest.raises(errors.UserError, match="journal: file is not a database"):
    journal.Journal(bucket / "journal.sqlite")
