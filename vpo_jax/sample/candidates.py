"""The sampling stage: K candidates a query, in part files until all are there."""

import dataclasses
import time
from typing import Any

import jax
import ml_collections
from etils import epath

from vpo_jax import queries as queries_lib
from vpo_jax import records, stages
from vpo_jax.decoder import sharding
from vpo_jax.runtime import console, processes, watchdog
from vpo_jax.sample import generate, lm, settings

_PARTS = "parts"
_PART_SECONDS = 30.0  # what a killed run loses at most


def run(
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  share: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
  """Samples every query's candidates to `<workdir>/sample/candidates.jsonl`.

  Args:
    config: configs/sample.py.
    share: (i, n): make every n-th query from the i-th on, where n processes share the
      work in one workdir. The one that ends last puts the parts together. The
      processes of one run (`processes.join`) divide the share among them; each samples
      on its own devices.

  Returns: counts; of this share only, while others are missing.

  Raises:
    UserError: a wrong input or setting; see `stages.begin` and `policy.load`.
  """
  workdir = epath.Path(workdir)
  model = config.model or str(workdir / "train_sft" / "model")
  queries_path = config.queries or workdir / "curate" / "dpo.jsonl"
  wanted = _settings(config)
  inputs = {"queries": queries_path}
  if epath.Path(model).exists():
    inputs["model"] = model
  work = stages.begin("sample", config, workdir, inputs)
  if work.counts is not None:
    return work.counts
  queries, unread = queries_lib.load(queries_path)
  parts = work.folder / _PARTS
  mixed = share[1] > 1
  index, count = processes.index, processes.count
  share = (share[0] * count + index, share[1] * count)
  done = {row.query_id for row in _made(parts)} | {row.id for row in _aside(parts)}
  mine = [q for q in queries[share[0] :: share[1]] if q.id not in done]
  rate = 0.0
  if mine:
    policy = lm.load(
      model,
      precision=config.precision,
      instruction=config.instruction,
      mesh=sharding.make_mesh(config.mesh, jax.local_devices()),
    )
    total = len(queries[share[0] :: share[1]])
    rate = _sample(config, policy, wanted, mine, parts, total)
  processes.meet("sampled")
  counts = _finish(work, queries, unread, parts, rate)
  # Another share may be reading them this moment.
  if processes.first() and "missing" not in counts and not mixed and parts.exists():
    parts.rmtree()
  return counts


def _settings(config: ml_collections.ConfigDict) -> settings.Settings:
  names = {field.name for field in dataclasses.fields(settings.Settings)}
  return settings.Settings(**{k: v for k, v in config.items() if k in names})


def _sample(
  config: ml_collections.ConfigDict,
  policy: lm.LanguageModel,
  wanted: settings.Settings,
  queries: list[records.Query],
  parts: epath.Path,
  total: int,
) -> float:
  """Makes the candidates of `queries`; returns new tokens a second."""
  prompts, kept, aside = [], [], []
  for query in queries:
    prompt = policy.prompt(query.text)
    if len(prompt.tokens) > config.max_prompt_tokens:
      reason = f"{len(prompt.tokens)} tokens, more than {config.max_prompt_tokens=}"
      aside.append(records.SetAside(query.id, query.text, reason))
    else:
      prompts.append(prompt)
      kept.append(query)
  if aside:
    records.write(parts / f"aside-{aside[0].id}.jsonl", aside)
  made = dataclasses.asdict(wanted) | {"precision": policy.precision}
  model = policy.fingerprint()
  rows: list[records.Candidates] = []
  tokens, began, published = 0, time.monotonic(), time.monotonic()
  with (
    watchdog.watched() as watch,
    console.progress("sample", total, total - len(kept)) as advance,
  ):
    for place, candidates in generate.stream(
      policy, prompts, wanted, slots=config.slots, watch=watch
    ):
      query = kept[place]
      tokens += sum(c.tokens for c in candidates)
      rows.append(
        records.Candidates(
          query_id=query.id,
          query=query.text,
          category=query.category,
          flags=query.flags,
          model=model,
          settings=made,
          candidates=candidates,
        )
      )
      advance(1, f"{tokens / (time.monotonic() - began):.0f} new tokens/s")
      late = time.monotonic() - published > _PART_SECONDS
      if late or len(rows) >= config.queries_per_part:
        watch.pause()  # storage may take minutes
        _publish(parts, rows)
        published = time.monotonic()
    watch.pause()
    _publish(parts, rows)
  return tokens / (time.monotonic() - began)


def _publish(parts: epath.Path, rows: list[records.Candidates]) -> None:
  if rows:
    records.write(parts / f"made-{rows[0].query_id}.jsonl", rows)
    rows.clear()


def _made(parts: epath.Path) -> list[records.Candidates]:
  return [
    row
    for path in _files(parts, "made-")
    for row in records.read(path, records.Candidates)
  ]


def _aside(parts: epath.Path) -> list[records.SetAside]:
  return [
    row
    for path in _files(parts, "aside-")
    for row in records.read(path, records.SetAside)
  ]


def _files(parts: epath.Path, prefix: str) -> list[epath.Path]:
  if not parts.exists():
    return []
  return sorted(path for path in parts.iterdir() if path.name.startswith(prefix))


def _finish(
  work: stages.Stage,
  queries: list[records.Query],
  unread: list[records.SetAside],
  parts: epath.Path,
  rate: float,
) -> dict[str, Any]:
  made = {row.query_id: row for row in _made(parts)}
  aside = {row.id: row for row in _aside(parts)}
  rows = [made[query.id] for query in queries if query.id in made]
  counts = _count(rows, len(aside) + len(unread), rate)
  missing = len(queries) - len(made.keys() | aside.keys())
  if missing:
    console.say(f"sample: {missing} queries are other processes'")
    return counts | {"missing": missing}
  if processes.first():
    records.write(work.folder / "candidates.jsonl", rows)
    records.write(
      work.folder / "set_aside.jsonl",
      unread + [aside[q.id] for q in queries if q.id in aside],
    )
  return work.finish(counts)


def _count(
  rows: list[records.Candidates], set_aside: int, rate: float
) -> dict[str, Any]:
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
