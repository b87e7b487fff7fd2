"""Scorers judge videos. A scorer is a module with `make(spec) -> base.Scorer`."""

from __future__ import annotations

import importlib
import types

# Named by --config.scorer.name, as well as any module by its dotted name.
NAMES = {
  "http": "torch_bridge.scorers.http",
  "visionreward": "torch_bridge.scorers.visionreward",
}


def module(name: str) -> types.ModuleType:
  """The module of a scorer, by its short name or its dotted module name.

  Raises:
    ImportError: this interpreter lacks the module or a package that it imports.
  """
  return importlib.import_module(NAMES.get(name, name))
