"""Stores every reply of a model on disk before it is used.

A request is identified by a hash of model, messages, parameters and sample index, so a
killed run, or another run with the same request, reads the reply from the journal and
does not pay for it again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from vpo_jax import buckets, errors, files

Message = dict[str, str]

_STORE_S = 60.0  # seconds between copies to a bucket

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY,
  text TEXT NOT NULL,
  finish_reason TEXT NOT NULL,
  refusal INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
  id TEXT PRIMARY KEY,
  collected INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (id TEXT PRIMARY KEY);
INSERT INTO journal SELECT lower(hex(randomblob(8)))
  WHERE NOT EXISTS (SELECT * FROM journal)
"""
# The id is that of the bucket's journal, by which a server knows the batches.
_MERGE = """
INSERT OR IGNORE INTO replies SELECT * FROM stored.replies;
INSERT INTO batches SELECT * FROM stored.batches WHERE true
  ON CONFLICT (id) DO UPDATE SET collected = max(collected, excluded.collected);
DELETE FROM journal;
INSERT INTO journal SELECT id FROM stored.journal;
"""


@dataclasses.dataclass(frozen=True)
class Reply:
  """A model's reply.

  Attributes:
    finish_reason: "stop", "length" if it was cut off at the token limit, or
      "content_filter".
    refusal: whether the model, or a content filter, declined.
  """

  text: str
  finish_reason: str
  refusal: bool
  prompt_tokens: int
  completion_tokens: int


@dataclasses.dataclass(frozen=True)
class Request:
  """One call, independent of the server's address."""

  model: str
  messages: tuple[Message, ...]
  parameters: dict[str, Any]
  sample: int

  @property
  def body(self) -> dict[str, Any]:
    """The JSON to send."""
    return {"model": self.model, "messages": self.messages} | self.parameters

  @functools.cached_property
  def key(self) -> str:
    """A hash of every field, as 64 hex digits."""
    parts = [self.model, self.messages, self.parameters, self.sample]
    content = json.dumps(parts, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


class Journal:
  """A journal in one SQLite file, which several processes may have open.

  A journal in a bucket is used in the scratch folder. It is copied to the bucket when a
  minute has passed since the last copy, with every batch that is sent, and at the end.
  """

  def __init__(self, path: epath.PathLike):
    """Opens the journal, or creates it.

    Raises:
      UserError: it is not a journal, or the bucket cannot be read or written.
    """
    buckets.check(path)
    self._stored_at = epath.Path(path)
    local = buckets.scratch(path)
    self.path = str(local)
    in_bucket = files.is_bucket(path) and self._stored_at.exists()
    with self._one_line_errors():
      local.parent.mkdir(parents=True, exist_ok=True)
      self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
      # With a write-ahead log, a killed process loses no committed reply.
      self._db.execute("PRAGMA journal_mode=WAL")
      self._db.execute("PRAGMA synchronous=NORMAL")
      self._db.executescript(_TABLES)
      if in_bucket:
        self._merge()
    self._changed = files.is_bucket(path) and not in_bucket
    self._store()  # before a reply is paid for

  def get(self, key: str) -> Reply | None:
    """The reply to the request with this key, or None."""
    with self._one_line_errors():
      row = self._db.execute(
        "SELECT text, finish_reason, refusal, prompt_tokens, completion_tokens"
        " FROM replies WHERE key = ?",
        (key,),
      ).fetchone()
    return Reply(row[0], row[1], bool(row[2]), row[3], row[4]) if row else None

  def put(self, key: str, reply: Reply) -> Reply:
    """Stores a reply unless the key has one; returns the stored reply."""
    with self._one_line_errors():
      added = self._db.execute(
        "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)",
        (key, *dataclasses.astuple(reply)),
      ).rowcount
    self._changed = True
    if time.monotonic() - self._last_copy > _STORE_S:
      self._store()
    return reply if added else self.get(key) or reply

  @property
  def id(self) -> str:
    """A random id that is sent with this journal's batches to find them again."""
    with self._one_line_errors():
      return self._db.execute("SELECT id FROM journal").fetchone()[0]

  def batches(self) -> dict[str, bool]:
    """Ids of the batches sent, and whether all replies of each are journaled."""
    with self._one_line_errors():
      rows = self._db.execute("SELECT id, collected FROM batches").fetchall()
    return {name: bool(collected) for name, collected in rows}

  def put_batch(self, name: str, *, collected: bool) -> None:
    """Records a batch, or changes its record."""
    with self._one_line_errors():
      self._db.execute("REPLACE INTO batches VALUES (?, ?)", (name, collected))
    self._changed = True
    self._store()

  def __len__(self) -> int:
    with self._one_line_errors():
      return self._db.execute("SELECT COUNT(*) FROM replies").fetchone()[0]

  def close(self) -> None:
    try:
      self._store()
    finally:
      self._db.close()

  def _merge(self) -> None:
    """Adds what the bucket's journal has; the local one may be newer or older."""
    with tempfile.TemporaryDirectory() as folder:
      copy = os.path.join(folder, "journal.sqlite")
      buckets.fetch(self._stored_at, copy)
      self._db.execute("ATTACH ? AS stored", (copy,))
      self._db.executescript(f"BEGIN; {_MERGE} COMMIT;")
      self._db.execute("DETACH stored")

  def _store(self) -> None:
    """Copies the journal to its bucket, if it has one and has changed."""
    self._last_copy = time.monotonic()
    if not self._changed or not files.is_bucket(self._stored_at):
      return
    with self._one_line_errors(), tempfile.TemporaryDirectory() as folder:
      copy = os.path.join(folder, "journal.sqlite")
      with contextlib.closing(sqlite3.connect(copy)) as target:
        self._db.backup(target)
      buckets.store(self._stored_at, copy)
    self._changed = False

  def __enter__(self) -> "Journal":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  @contextlib.contextmanager
  def _one_line_errors(self) -> Iterator[None]:
    try:
      yield
    except sqlite3.Error as error:
      raise errors.UserError(f"{self.path}: journal: {error}") from error
