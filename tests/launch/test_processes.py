"""Who computes: each stage that uses JAX in its own process, the pipeline in none."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from vpo_jax import json_input

ROOT = pathlib.Path(__file__).parents[2]


def run(*command):
  return subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )


PROGRAM = """
  import json, os, sys
  import jax, ml_collections
  from vpo_jax import stages

  def work(work):
    return {"pid": os.getpid(), "devices": jax.device_count()}

  STAGE = stages.Stage(name="probe", run=work, uses_jax=True)

  if __name__ == "__main__":
    jax.config.update("jax_platforms", "none_in_this_process")
    config = ml_collections.ConfigDict()
    counts = stages.run(STAGE, config, sys.argv[1], own_process=True)
    again = stages.run(STAGE, config, sys.argv[1], own_process=True)
    assert again == counts  # finished work starts no process
    try:
      jax.devices()
    except RuntimeError:
      print(json.dumps(counts | {"parent": os.getpid()}))
"""


def test_a_stage_computes_in_a_child_and_its_parent_has_no_device(tmp_path):
  (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
  ran = run(tmp_path / "program.py", tmp_path / "work")
  assert ran.returncode == 0, ran.stderr
  found = json.loads(ran.stdout)
  assert found["devices"] == 8
  assert found["pid"] != found["parent"]


@pytest.mark.parametrize("config", ["curate.py", "quickstart.py"])
def test_a_stage_reads_its_own_config_or_its_part_of_a_whole_run(tmp_path, config):
  sizes = "--config.curate.sizes" if config == "quickstart.py" else "--config.sizes"
  ran = run(
    *("launch/curate.py", f"--config=configs/{config}", f"--workdir={tmp_path}"),
    f"{sizes}.sft_general=7",
  )
  assert ran.returncode == 0, ran.stderr
  manifest = json_input.value(tmp_path / "curate" / "manifest.json")
  assert manifest["config"]["sizes"]["sft_general"] == 7
  assert manifest["counts"]["sft"] > 0
