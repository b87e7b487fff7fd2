"""What the pages refer to exists: links, sections, files, and config keys."""

import importlib
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
  path
  for glob in (
    *("*.md", "docs/*.md", "docs/notes/*.md"),
    *("integrations/*/*.md", "torch_bridge/*.md"),
  )
  for path in ROOT.glob(glob)
)
# A page may name a file by its path within one of these.
FOLDERS = ("", "vpo_jax", "torch_bridge", "torch_bridge/miniature")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
NAMED = re.compile(
  r"`([\w./-]+\.(?:py|sh|md))`"
  r"|\b((?:configs|docs|launch|tests|torch_bridge|vpo_jax)/[\w/.-]+\.(?:py|sh|md))\b"
)


def anchors(path):
  """The anchors of a page's headings, as GitHub derives them."""
  heads = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}


def test_extras_that_the_pages_install_are_declared():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  declared = set(project["optional-dependencies"])
  assert {"cuda12", "cuda13"} <= declared
  pages = (*PAGES, ROOT / "Makefile", *ROOT.glob("launch/**/*.*"))
  named = [re.findall(r"-e ['\"]?\.\[([\w,]+)\]", page.read_text()) for page in pages]
  named = {extra for found in named for list in found for extra in list.split(",")}
  assert "cuda12" in named
  assert named <= declared


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_and_sections_exist(page):
  for name, anchor in LINK.findall(page.read_text()):
    target = page.parent / name if name else page
    assert target.exists(), f"{page.name} links to {name}"
    assert not anchor or anchor in anchors(target), f"{page.name}: {name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(page):
  text = page.read_text()
  shown = re.findall(r"^```python\n# (\S+)$", text, flags=re.MULTILINE)
  for name in {"".join(groups) for groups in NAMED.findall(text)} - set(shown):
    places = [page.parent, *(ROOT / folder for folder in FOLDERS)]
    assert any((place / name).exists() for place in places), f"{page.name}: {name}"


def config_keys():
  """The keys of all configs, also those of their parts ("mesh", "mesh.data")."""
  keys = set()
  for path in ROOT.glob("configs/*.py"):
    module = importlib.import_module(f"configs.{path.stem}")
    if hasattr(module, "get_config"):
      keys |= set(flat(module.get_config().to_dict()))
  return keys


def flat(config, prefix=""):
  for key, value in config.items():
    yield f"{prefix}{key}"
    if isinstance(value, dict):
      yield from flat(value, f"{prefix}{key}.")


def test_named_config_keys_exist():
  known = config_keys()
  for page in PAGES:
    for key in re.findall(r"--config\.([\w.]*\w)", page.read_text()):
      assert key in known or key == "KEY", f"{page.name}: --config.{key}"
