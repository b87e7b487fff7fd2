"""What a person sees while a stage runs: one progress bar, and plain lines."""

import contextlib
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

console = rich.console.Console(stderr=True, highlight=False)


def say(line: str) -> None:
  """Prints one line, taken as it is (no markup)."""
  console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(
  title: str, total: int, done: int = 0
) -> Iterator[Callable[[int, str], None]]:
  """A bar with rate and time left.

  Args:
    title: the stage, as the pipeline names it.
    total: how many units of work there are.
    done: how many an earlier run had done; they do not count into the rate.

  Yields:
    `advance(count, note)`: adds units and shows a short note ("loss 1.92").
  """
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
