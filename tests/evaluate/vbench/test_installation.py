"""VBench is asked where it is, and a wrong setting is one line."""

import sys

import pytest

from tests.evaluate.vbench import wheel
from vpo_jax import errors
from vpo_jax.evaluate.vbench import installation


def set_key(**keys):
  return lambda config: config.update(keys)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    (set_key(python=""), "python is empty"),
    (set_key(python="/no/such/python"), "/no/such/python: No such file"),
    (set_key(python="/bin/cat"), r"does not run vbench_dimension\.py"),
    (set_key(mode="short"), "'short': must be standard or long"),
    (set_key(mode="long"), "gpus=0: must be 1, for VBench-Long"),
    (set_key(mode="long", gpus=1), "checkout is empty"),
    (set_key(gpus=-1), "gpus=-1"),
    (set_key(videos_per_prompt=6), "videos_per_prompt=6: VBench takes 1 to 5"),
    (set_key(prompts_per_dimension=-1), "prompts_per_dimension=-1"),
    (set_key(dimensions=("taste",)), "'taste' is not one of"),
    (set_key(info="/no/info.json"), "/no/info.json: no such file"),
    (set_key(checkout="/no/checkout"), "no VBench checkout"),
  ],
)
def test_a_wrong_setting_is_one_line(config, change, reason):
  change(config)
  with pytest.raises(errors.UserError, match=reason) as raised:
    installation.find(config)
  assert "\n" not in str(raised.value)


def test_an_interpreter_without_vbench_is_told_how_to_install_it(config, tmp_path):
  python = tmp_path / "bare"
  python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
  python.chmod(0o755)
  config.python = str(python)
  with pytest.raises(errors.UserError, match=r"bare -m pip install vbench==0\.1\.5"):
    installation.find(config)


def test_the_package_is_found_without_importing_it(config):
  config.python, config.info = sys.executable, ""
  found = installation.find(config)
  assert found.info == wheel.INFO.resolve()
  assert (found.version, found.name) == ("0.1.5", "VBench 0.1.5")
