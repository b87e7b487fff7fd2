"""Stage sample: K candidate prompts for each query (paper, section 3.3).

Finished queries are written to part files until all queries are finished, so a killed
run loses at most half a minute of work, and several processes can share a workdir.
"""

import dataclasses
import time
from collections.abc import Sequence

import ml_collections
from etils import epath

from vpo_jax import errors, files, records, stages, templates
from vpo_jax import queries as queries_lib
from vpo_jax.decoder import source
from vpo_jax.promises import targets
from vpo_jax.runtime import console, processes, watchdog
from vpo_jax.sample import engines, settings

_PART_SECONDS = 30.0  # the most work that a killed run loses


def run(work: stages.Work) -> stages.Counts | stages.Unfinished:
  """Samples every query's candidates to `candidates.jsonl`.

  The instruction that the model was given is written to `instruction.txt`, with the
  notes of `config.target`.

  With `config.share = "i/n"`, this process samples every n-th query from the i-th on,
  and the process that finishes last merges the parts. The processes of one distributed
  run (`processes.join`) divide the share; each samples on its own devices.

  Returns: the counts; while shares are missing, those of the finished shares.

  Raises:
    UserError: a setting is out of range, the queries, the model or the target cannot be
      read, the instruction has no place for the target's notes, or the server of
      `config.openai` cannot be used.
  """
  config = work.config
  engines.check(config)
  wanted = _settings(config)
  notes = ""
  if config.target:
    notes = targets.load(work.inputs["target"]).profile.notes
  instruction = templates.of_model(work.inputs["model"], config.instruction, notes)
  share, shares = _share(config.share)
  queries, unread = queries_lib.load(work.inputs["queries"])
  parts = _Parts(work.folder / "parts")
  first = share * processes.count + processes.index
  mine = queries[first :: shares * processes.count]
  done = parts.finished_ids()
  missing = [query for query in mine if query.id not in done]
  rate = 0.0
  if missing:
    engine = engines.load(work, notes)
    rate = _sample(config, engine, wanted, missing, parts, len(mine))
  processes.barrier("sampled")
  return _merge(work, queries, unread, parts, rate, instruction, keep_parts=shares > 1)


def _settings(config: ml_collections.ConfigDict) -> settings.Settings:
  names = {field.name for field in dataclasses.fields(settings.Settings)}
  return settings.Settings(**{k: v for k, v in config.items() if k in names})


def _share(text: str) -> tuple[int, int]:
  """The (i, n) of "i/n"."""
  index, _, count = text.partition("/")
  if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
    raise errors.UserError(f"config.share={text!r}: must be i/n with i < n, as in 0/4")
  return int(index), int(count)


class _Parts:
  """Part files with finished queries, and with queries that were set aside."""

  def __init__(self, folder: epath.Path):
    self._folder = folder

  def write(self, rows: Sequence[records.Candidates]) -> None:
    if rows:
      records.write(self._folder / f"made-{rows[0].query_id}.jsonl", rows)

  def set_aside(self, rows: Sequence[records.SetAside]) -> None:
    if rows:
      records.write(self._folder / f"aside-{rows[0].id}.jsonl", rows)

  def candidates(self) -> dict[str, records.Candidates]:
    """Finished rows by query id."""
    rows = self._read("made-", records.Candidates)
    return {row.query_id: row for row in rows}

  def aside(self) -> dict[str, records.SetAside]:
    """Rows that were set aside by query id."""
    return {row.id: row for row in self._read("aside-", records.SetAside)}

  def finished_ids(self) -> set[str]:
    return self.candidates().keys() | self.aside().keys()

  def remove(self) -> None:
    if self._folder.exists():
      self._folder.rmtree()

  def _read(self, prefix: str, row_type: type[records.Row]) -> list[records.Row]:
    if not self._folder.exists():
      return []
    paths = sorted(p for p in self._folder.iterdir() if p.name.startswith(prefix))
    return [row for path in paths for row in records.read(path, row_type)]


def _sample(
  config: ml_collections.ConfigDict,
  engine: engines.Engine,
  wanted: settings.Settings,
  queries: Sequence[records.Query],
  parts: _Parts,
  total: int,
) -> float:
  """Samples the candidates of `queries`; returns the new tokens per second."""
  prompts, kept, aside = [], [], []
  for query in queries:
    try:
      prompt = engine.prompter.prompt(query.text)
    except errors.UserError as error:
      aside.append(records.SetAside(query.id, query.text, str(error)))
      continue
    if len(prompt.tokens) > config.max_prompt_tokens:
      reason = f"{len(prompt.tokens)} tokens, more than {config.max_prompt_tokens=}"
      aside.append(records.SetAside(query.id, query.text, reason))
    else:
      prompts.append(prompt)
      kept.append(query)
  parts.set_aside(aside)
  fingerprint = engine.prompter.fingerprint()
  rows: list[records.Candidates] = []
  tokens, began, published = 0, time.monotonic(), time.monotonic()
  with (
    watchdog.watched(config.hang_minutes) as watch,
    console.progress("sample", total, total - len(kept)) as advance,
  ):
    try:
      for place, candidates in engine.stream(prompts, wanted, watch):
        query = kept[place]
        tokens += sum(c.tokens for c in candidates)
        made_with = dataclasses.asdict(wanted) | engine.made_with(prompts[place])
        rows.append(
          records.Candidates(
            query_id=query.id,
            query=query.text,
            category=query.category,
            flags=query.flags,
            model=fingerprint,
            settings=made_with,
            candidates=candidates,
          )
        )
        advance(1, f"{tokens / (time.monotonic() - began):.0f} new tokens/s")
        is_due = time.monotonic() - published > _PART_SECONDS
        if is_due or len(rows) >= config.queries_per_part:
          watch.pause()  # writing to storage may take minutes
          parts.write(rows)
          rows = []
          published = time.monotonic()
    finally:
      watch.pause()
      parts.write(rows)
  return tokens / (time.monotonic() - began)


def _merge(
  work: stages.Work,
  queries: Sequence[records.Query],
  unread: list[records.SetAside],
  parts: _Parts,
  rate: float,
  instruction: str,
  keep_parts: bool,
) -> stages.Counts | stages.Unfinished:
  """Writes the stage's files once every query is finished.

  Args:
    keep_parts: another process may still read the part files.
  """
  made, aside = parts.candidates(), parts.aside()
  rows = [made[query.id] for query in queries if query.id in made]
  counts = _count(rows, len(aside) + len(unread), rate)
  missing = len(queries) - len(made.keys() | aside.keys())
  if missing:
    console.say(f"sample: other processes have {missing} queries to finish")
    return stages.Unfinished(counts | {"missing": missing})
  if processes.first():
    records.write(work.folder / "candidates.jsonl", rows)
    files.write_text(work.folder / templates.INSTRUCTION, instruction)
    not_sampled = unread + [aside[q.id] for q in queries if q.id in aside]
    records.write(work.folder / "set_aside.jsonl", not_sampled)
  processes.barrier("candidates written")
  if processes.first() and not keep_parts:
    parts.remove()
  return counts


def _count(
  rows: Sequence[records.Candidates], set_aside: int, rate: float
) -> stages.Counts:
  every = [candidate for row in rows for candidate in row.candidates]
  tokens = sum(candidate.tokens for candidate in every)
  return {
    "queries": len(rows),
    "candidates": len(every),
    "stopped": sum(c.finish_reason == "stop" for c in every),
    "cut_by_length": sum(c.finish_reason == "length" for c in every),
    "mean_tokens": round(tokens / max(len(every), 1), 1),
    "new_tokens": tokens,
    "new_tokens_per_second": round(rate, 1),
    "set_aside": set_aside,
  }


def _inputs(config: stages.Config) -> stages.Inputs:
  named = [stages.Input("instruction")] if config.instruction else []
  if config.target:
    named.append(stages.Input("target", resolve=targets.find))
  return (
    stages.Input("queries", "curate/dpo.jsonl"),
    stages.Input("model", "train_sft/model", resolve=source.resolve),
    *named,
  )


STAGE = stages.Stage(
  name="sample",
  run=run,
  inputs=_inputs,
  execution_keys=(
    *("slots", "queries_per_part", "mesh.*", "share", "hang_minutes"),
    *("openai.base_url", "openai.api_key_env", "openai.parallel", "openai.timeout_s"),
    "openai.retries",
  ),
  uses_jax=True,
  part=lambda config: config.share.replace("/", "of"),
)
