"""What judges videos. A scorer is a module with `make(spec) -> base.Scorer`."""

from __future__ import annotations

import importlib
import types

_OWN = {
  "checklist": "torch_bridge.scorers.checklist",
  "http": "torch_bridge.scorers.http",
  "miniature": "torch_bridge.miniature.scorer",
  "visionreward": "torch_bridge.scorers.visionreward",
}


def module(name: str) -> types.ModuleType:
  """A scorer's module, by our name or by its own dotted one.

  Raises:
    ImportError: the interpreter lacks it, or a package that it needs.
  """
  return importlib.import_module(_OWN.get(name, name))
