"""The wheel has all that `vpo` needs, without the checkout."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """The folder of an installed wheel; the packages that it needs are the tests' own."""
  folder = tmp_path_factory.mktemp("wheel")
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
  build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
  subprocess.run([*pip, *build, str(ROOT)], check=True)
  (wheel,) = folder.glob("*.whl")
  target = folder / "site"
  subprocess.run(
    [*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True
  )
  return target


@pytest.fixture
def vpo(installed, tmp_path):
  """`vpo(*arguments)`: runs the command outside of the checkout."""

  def run(*arguments):
    return subprocess.run(
      [installed / "bin" / "vpo", *arguments],
      env=os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "200"},
      cwd=tmp_path,
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def test_the_code_is_the_wheels(installed, tmp_path):
  code = "import vpo_jax, configs, torch_bridge as t; print(vpo_jax.__path__[0],"
  code += " configs.__path__[0], t.__path__[0], sep=chr(10))"
  ran = subprocess.run(
    [sys.executable, "-c", code],
    env=os.environ | {"PYTHONPATH": str(installed)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  paths = ran.stdout.split()
  assert len(paths) == 3
  assert all(pathlib.Path(path).is_relative_to(installed) for path in paths)


def test_it_has_the_files_of_the_server_page(installed):
  names = [
    sorted(path.name for path in (folder / "vpo_jax/serve/page").glob("*.*"))
    for folder in (installed, ROOT)
  ]
  assert names[0] == names[1]


def test_it_lists_its_commands(vpo):
  ran = vpo()
  assert ran.returncode == 0
  for name in ("optimize", "serve", "export", "pipeline"):
    assert f"  {name} " in ran.stdout
  wrong = vpo("optimise")
  assert wrong.returncode == 2
  assert wrong.stderr == "error: vpo has no command 'optimise'; `vpo` lists them\n"


def test_it_rewrites_a_query(vpo, tiny_model):
  ran = vpo(
    "optimize",
    f"--model={tiny_model}",
    "--max_new_tokens=8",
    "--guard=false",
    "a boat",
  )
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout.strip()


def test_a_stage_finds_its_config_and_its_data(vpo, tmp_path):
  sizes = [
    f"--config.sizes.{name}=2"
    for name in ("sft_general", "dpo_general", "test_general")
  ]
  sizes += [
    f"--config.sizes.{name}=0" for name in ("sft_safety", "dpo_safety", "test_safety")
  ]
  ran = vpo("curate", f"--workdir={tmp_path / 'run'}", *sizes)
  assert ran.returncode == 0, ran.stderr
  assert (tmp_path / "run" / "curate" / "sft.jsonl").exists()
