"""What makes videos. A renderer is a module with `make(spec) -> base.Renderer`."""

from __future__ import annotations

import importlib
import types

_OWN = {
  "command": "torch_bridge.renderers.command",
  "diffusers": "torch_bridge.renderers.diffusers",
}


def module(name: str) -> types.ModuleType:
  """A renderer's module, by our name or by its own dotted one.

  Raises:
    ImportError: the interpreter lacks it, or a package that it needs.
  """
  return importlib.import_module(_OWN.get(name, name))
