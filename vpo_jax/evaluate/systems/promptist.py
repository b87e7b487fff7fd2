"""Prompts of Promptist, a GPT-2 that runs in a torch process of its own."""

import contextlib
import json
import pathlib
import subprocess
import sys

import ml_collections
from etils import epath

from torch_bridge import contract
from vpo_jax import buckets, errors, json_input, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.evaluate.systems import made, row
from vpo_jax.runtime import allocator, console

PROGRAM = pathlib.Path(contract.__file__).parent / "programs" / "promptist.py"
EXECUTION_KEYS = ("python", "device", "batch_size")
_TAIL = 3  # lines of the log in an error


def model(system: row.System, config: ml_collections.ConfigDict) -> str:
  """The model's directory or hub id."""
  return system.target or config.promptist.model


def check(system: row.System, config: ml_collections.ConfigDict) -> str:
  """Asks the interpreter for its packages; returns the model and their versions.

  Raises:
    UserError: there is no such interpreter, it lacks a package, or the directory has no
      model.
  """
  python, name = _python(config.promptist), model(system, config)
  folder = pathlib.Path(name)
  if folder.is_dir() and not (folder / "config.json").is_file():
    raise errors.UserError(f"config.systems: {name} has no config.json")
  if config.promptist.batch_size < 1:
    raise errors.UserError(
      f"config.promptist.batch_size={config.promptist.batch_size}: must be 1 or more"
    )
  try:
    done = subprocess.run(
      [python, str(PROGRAM), "--check"],
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      env=allocator.user_environment(),
    )
  except OSError as error:
    raise errors.UserError(
      f"config.promptist.python={python}: {error.strerror}"
    ) from error
  try:
    versions = json.loads(done.stdout)
  except ValueError as error:
    last = [*done.stderr.split("\n"), "no output"]
    line = next(text for text in last if text.strip())
    raise errors.UserError(
      f"config.promptist.python={python}: does not run {PROGRAM.name}: {line.strip()}"
    ) from error
  lacking = " and ".join(
    package for package, version in versions.items() if not version
  )
  if lacking:
    raise errors.UserError(
      f"config.promptist.python={python}: it has no {lacking}; install it there, or"
      " name an interpreter that has it"
    )
  return f"{name}, " + ", ".join(f"{key} {value}" for key, value in versions.items())


def write(
  system: row.System,
  config: ml_collections.ConfigDict,
  queries: epath.PathLike,
  place: epath.Path,
  root: epath.PathLike,
) -> None:
  """Lets Promptist write the prompts."""
  named = made.named(config.promptist, queries=queries, model=model(system, config))
  stages.run(_STAGE, named, place, root)


def _run(work: stages.Work) -> stages.Counts:
  rows, _ = queries_lib.load(work.inputs["queries"])
  folder = pathlib.Path(buckets.scratch(work.folder))
  folder.mkdir(parents=True, exist_ok=True)
  asked, out = folder / "asked.jsonl", folder / "made.jsonl"
  with asked.open("w", encoding="utf-8") as file:
    for query in rows:
      file.write(json.dumps({"id": query.id, "text": query.text}) + "\n")
  _call(work.config, asked, out, folder / "log.txt", len(rows))
  answers = {found.value["id"]: found.value for found in json_input.rows(out)}
  name = work.config.model
  candidates = [
    made.candidate(query, answers[query.id]["prompt"], name)
    for query in rows
    if "prompt" in answers[query.id]
  ]
  aside = [
    records.SetAside(query.id, query.text, answers[query.id]["problem"])
    for query in rows
    if "problem" in answers[query.id]
  ]
  records.write(work.folder / "candidates.jsonl", candidates)
  records.write(work.folder / "set_aside.jsonl", aside)
  return {"queries": len(rows), "candidates": len(candidates), "set_aside": len(aside)}


def _call(
  config: ml_collections.ConfigDict,
  asked: pathlib.Path,
  out: pathlib.Path,
  log: pathlib.Path,
  total: int,
) -> None:
  """Runs the program until all queries are answered.

  It ends by itself if this process is killed: the pipe to its standard input closes.

  Raises:
    UserError: the interpreter cannot be started, or the program fails.
  """
  python = _python(config)
  command = [
    python,
    str(PROGRAM),
    f"--queries={asked}",
    f"--out={out}",
    *(
      f"--{key}={config[key]}"
      for key in ("model", "revision", "tokenizer", "device", "batch_size")
    ),
    "--end_with_stdin",
  ]
  begin = log.stat().st_size if log.exists() else 0
  done = _lines(out)
  with log.open("ab") as file, console.progress("promptist", total, done) as advance:
    try:
      process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=allocator.user_environment(),
      )
    except OSError as error:
      raise errors.UserError(
        f"config.promptist.python={python}: {error.strerror}"
      ) from error
    with process:
      try:
        while process.poll() is None:
          with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
          found = _lines(out)
          advance(found - done, "")
          done = found
      finally:
        process.kill()
  if process.returncode:
    text = log.read_bytes()[begin:].decode(errors="replace")
    last = [line.strip() for line in text.split("\n") if line.strip()][-_TAIL:]
    raise errors.UserError(
      f"promptist: {python} ended with exit code {process.returncode}:"
      f" {' | '.join(last) or 'it printed nothing'} (log: {log})"
    )


def _python(config: ml_collections.ConfigDict) -> str:
  return config.python or sys.executable


def _lines(path: pathlib.Path) -> int:
  return path.read_bytes().count(b"\n") if path.exists() else 0


_STAGE = stages.Stage(
  name=made.STAGE,
  run=_run,
  inputs=(stages.Input("queries"), stages.Input("model", optional=True)),
  execution_keys=EXECUTION_KEYS,
)
