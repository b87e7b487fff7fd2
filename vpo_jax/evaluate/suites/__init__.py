"""The suites by name. A new suite is a module here and an entry in `ALL`."""

from collections.abc import Sequence

from vpo_jax import errors
from vpo_jax.evaluate.suites import (
  base,
  monetbench,
  query_alignment,
  t2vsafety,
  test,
  vbench,
)

Suite = base.Suite
ALL = {
  suite.name: suite
  for suite in (
    test.SUITE,
    monetbench.SUITE,
    vbench.SUITE,
    query_alignment.SUITE,
    t2vsafety.SUITE,
  )
}


def parse(names: Sequence[str]) -> list[Suite]:
  """The suites that `config.suites` names.

  Raises:
    UserError: none is named, or a name is unknown or occurs twice.
  """
  for name in names:
    if name not in ALL:
      raise errors.UserError(
        f"config.suites: no suite is named {name!r}, only {', '.join(ALL)}"
      )
  if not names or len(set(names)) < len(names):
    raise errors.UserError("config.suites: name one or more suites, each once")
  return [ALL[name] for name in names]
