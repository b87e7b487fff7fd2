"""Shell scripts pass shellcheck; those for clusters name what exists."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
CLUSTER = LAUNCH / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
GPU = LAUNCH / "bench_gpu.sh"
SLURM = ("h800.sh", "h800_nodes.sh")


@pytest.mark.parametrize("path", [*SCRIPTS, GPU], ids=lambda p: p.name)
def test_shellcheck_passes(path):
  checker = pathlib.Path(sys.executable).with_name("shellcheck")
  ran = subprocess.run([checker, path], capture_output=True, text=True, check=False)
  assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_that_are_named_exist(path):
  text = path.read_text()
  for stage in re.findall(r"STAGE(?:=|:-)(\w+)", text):
    assert (LAUNCH / f"{stage}.py").exists()
  for name in re.findall(r"launch/cluster/[\w.]+", text):
    assert (LAUNCH.parent / name).exists()


def directives(name):
  """The #SBATCH options of a file; sbatch reads them up to the first command."""
  found = {}
  for line in (CLUSTER / name).read_text().splitlines():
    if line.startswith("#SBATCH "):
      option, _, value = line.removeprefix("#SBATCH --").partition("=")
      found[option] = value
    elif line and not line.startswith("#"):
      break
  return found


@pytest.mark.parametrize("name", SLURM)
def test_slurm_runs_one_process_per_gpu(name):
  found = directives(name)
  assert (CLUSTER / name).read_text().count("#SBATCH") == len(found)
  assert found["ntasks-per-node"] == found["gpus-per-node"]


def test_slurm_files_differ_only_in_their_nodes():
  one, several = ({**directives(name), "nodes": ""} for name in SLURM)
  assert one == several


def test_jobset_is_consistent():
  jobset = yaml.safe_load((CLUSTER / "jobset.yaml").read_text())
  (job,) = jobset["spec"]["replicatedJobs"]
  pods = job["template"]["spec"]
  pod = pods["template"]["spec"]
  (container,) = pod["containers"]
  environment = {variable["name"]: variable["value"] for variable in container["env"]}
  assert str(pods["parallelism"]) == str(pods["completions"]) == environment["NODES"]
  assert (LAUNCH / f"{environment['STAGE']}.py").exists()
  # JobSet names its pods <set>-<job>-<replica>-<index>.<subdomain>.
  subdomain = jobset["spec"]["network"]["subdomain"]
  host = f"{jobset['metadata']['name']}-{job['name']}-0-0.{subdomain}"
  port = container["ports"][0]["containerPort"]
  assert f"--coordinator_address={host}:{port} " in container["command"][-1]
  mounts = {mount["name"] for mount in container["volumeMounts"]}
  assert mounts == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(
  ("code", "restarts", "requeued"),
  [
    (0, 0, False),
    (1, 0, False),  # an error of the stage
    (75, 0, True),  # preempted, or a step hung
    (75, 9, True),
    (143, 0, True),  # sampling was preempted
    (134, 2, True),  # a process was lost
    (134, 3, False),
  ],
)
def test_what_another_attempt_can_cure_is_requeued(tmp_path, code, restarts, requeued):
  commands = tmp_path / "bin"
  commands.mkdir()
  for name, body in (
    ("srun", f'echo "$@" > {tmp_path}/ran; exit {code}'),
    ("scontrol", f'echo "$@" > {tmp_path}/requeued'),
  ):
    (commands / name).write_text(f"#!/bin/sh\n{body}\n")
    (commands / name).chmod(0o755)
  ran = subprocess.run(
    ["bash", CLUSTER / "step.sh", "--config.seed=3"],
    env={
      "PATH": f"{commands}:{os.environ['PATH']}",
      "SLURM_SUBMIT_DIR": str(tmp_path),
      "SLURM_JOB_ID": "17",
      "SLURM_RESTART_COUNT": str(restarts),
      "WORKDIR": "/shared/vpo",
      "STAGE": "train_sft",
    },
    check=False,
  )
  assert ran.returncode == code
  words = (tmp_path / "ran").read_text().split()
  assert words[-3:] == [
    "launch/train_sft.py",
    "--workdir=/shared/vpo",
    "--config.seed=3",
  ]
  found = tmp_path / "requeued"
  assert found.exists() == requeued
  if requeued:
    assert found.read_text().split() == ["requeue", "17"]
