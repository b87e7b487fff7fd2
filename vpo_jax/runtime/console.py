"""Console output while a stage runs: one progress bar, or log lines."""

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

console = rich.console.Console(stderr=True, highlight=False)

Advance = Callable[[int, str], None]

# Without a terminal: seconds until the first line of progress, and between lines.
FIRST_LINE = 10.0
INTERVAL = 60.0


def say(line: str) -> None:
  """Prints one line without interpreting markup."""
  console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
  """Shows progress: a bar on a terminal, and a line every minute in a log.

  Args:
    title: the stage, as the pipeline names it.
    total: units of work.
    done: units that an earlier run completed; the rate does not include them.

  Yields:
    `advance(count, note)`: adds units and shows a short note ("loss 1.92").
  """
  show = _bar if console.is_terminal else _lines
  with show(title, total, done) as advance:
    yield advance


@contextlib.contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
  columns = (
    rich.progress.TextColumn("{task.description:<12}"),
    rich.progress.BarColumn(bar_width=30),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TimeElapsedColumn(),
    rich.progress.TextColumn("left"),
    rich.progress.TimeRemainingColumn(),
    rich.progress.TextColumn("{task.fields[note]}", markup=False),
  )
  with rich.progress.Progress(*columns, console=console) as bar:
    task = bar.add_task(title, total=total, completed=done, note="")

    def advance(count: int = 1, note: str = "") -> None:
      bar.update(task, advance=count, note=note)

    yield advance


@contextlib.contextmanager
def _lines(title: str, total: int, done: int) -> Iterator[Advance]:
  began, earlier, note = time.monotonic(), done, ""
  lock, ended = threading.Lock(), threading.Event()

  def advance(count: int = 1, shown: str = "") -> None:
    nonlocal done, note
    with lock:
      done, note = done + count, shown

  def line(last: bool = False) -> None:
    seconds = time.monotonic() - began
    with lock:
      rate, left = (done - earlier) / seconds, total - done
      parts = [f"{title} {done}/{total}"]
      if rate:
        parts.append(_rate(rate))
      if last:
        parts.append(f"took {_time(seconds)}")
      elif rate:
        parts.append(f"{_time(left / rate)} left")
      if note:
        parts.append(note)
    say(", ".join(parts))

  def repeat() -> None:
    wait = FIRST_LINE
    while not ended.wait(wait):
      line()
      wait = INTERVAL

  thread = threading.Thread(target=repeat, daemon=True)
  thread.start()
  try:
    yield advance
  finally:
    ended.set()
    thread.join()
    line(last=True)


def _rate(per_second: float) -> str:
  for unit, seconds in (("s", 1), ("min", 60)):
    if per_second * seconds >= 1:
      return f"{per_second * seconds:.1f}/{unit}"
  return f"{per_second * 3600:.2g}/h"


def _time(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))
