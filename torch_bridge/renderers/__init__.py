"""Renderers make videos. A renderer is a module with `make(spec) -> base.Renderer`."""

from __future__ import annotations

import importlib
import types

# Named by --config.renderer.name, as well as any module by its dotted name.
NAMES = {
  "command": "torch_bridge.renderers.command",
  "diffusers": "torch_bridge.renderers.diffusers",
  "http": "torch_bridge.renderers.http",
}


def module(name: str) -> types.ModuleType:
  """The module of a renderer, by its short name or its dotted module name.

  Raises:
    ImportError: this interpreter lacks the module or a package that it imports.
  """
  return importlib.import_module(NAMES.get(name, name))
