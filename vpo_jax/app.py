"""Starts a launch script: flags and config in, one clear line for a user's mistake."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from vpo_jax import console, errors


def run(main: Callable[[], None]) -> None:
  """Parses flags, runs `main`, and turns users' mistakes into one line.

  Exits with 2 when a flag or config value is wrong, with 1 when `main` raises
  `UserError` or the system refuses a file (full disk, no permission), with 130 on
  Ctrl-C. Any other exception is a defect and keeps its traceback.
  """
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return app.parse_flags_with_usage(list(argv)) if _asks_help(argv) else _flags(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
    # ml_collections raises its own kinds for unknown keys and wrong types.
    _exit(2, " ".join(str(e).split()) or type(e).__name__)
    raise AssertionError from e


def _flags(argv: Sequence[str]) -> list[str]:
  rest = flags.FLAGS(list(argv))
  return rest


def _asks_help(argv: Sequence[str]) -> bool:
  return any(a.lstrip("-").startswith("help") for a in argv[1:])


def _guarded(main: Callable[[], None]) -> None:
  try:
    main()
  except errors.UserError as error:
    _exit(1, str(error))
  except OSError as error:
    if error.errno is None:
      raise
    _exit(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
  except KeyboardInterrupt:
    _exit(130, "interrupted; run the same command again to go on")


def _exit(code: int, line: str) -> None:
  console.say(f"error: {line}")
  sys.exit(code)
