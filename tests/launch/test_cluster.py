"""The cluster files pass a dry run: the shell's, SLURM's grammar, JobSet's schema."""

import pathlib
import re
import subprocess
import sys
from typing import Literal

import pydantic
import pytest
import yaml

FOLDER = pathlib.Path(__file__).parents[2] / "launch" / "cluster"
SLURM = ["h800.sh", "h800_nodes.sh"]

# sbatch's own grammar of the options that are used (slurm.schedmd.com/sbatch.html).
OPTIONS = {
  "job-name": r"[\w.-]+",
  "nodes": r"[1-9]\d*(-[1-9]\d*)?",
  "ntasks-per-node": r"[1-9]\d*",
  "gpus-per-node": r"(\w+:)?[1-9]\d*",
  "cpus-per-task": r"[1-9]\d*",
  "mem": r"\d+[KMGT]?",
  "time": r"(\d+-)?\d{1,2}:\d\d:\d\d",
  "signal": r"(R?B?:)?(TERM|INT|USR[12])(@\d+)?",
  "requeue": None,
  "open-mode": r"append|truncate",
  "output": r"\S+",
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sh")), ids=lambda p: p.name)
def test_shellcheck_has_nothing_to_say(path):
  checker = pathlib.Path(sys.executable).with_name("shellcheck")
  ran = subprocess.run([checker, path], capture_output=True, text=True, check=False)
  assert ran.returncode == 0, ran.stdout


def directives(name):
  """sbatch reads them up to the first command."""
  found = {}
  for line in (FOLDER / name).read_text().splitlines():
    if line.startswith("#SBATCH "):
      option, _, value = line.removeprefix("#SBATCH --").partition("=")
      found[option] = value
    elif line and not line.startswith("#"):
      break
  return found


@pytest.mark.parametrize("name", SLURM)
def test_sbatch_reads_the_directives(name):
  found = directives(name)
  assert (FOLDER / name).read_text().count("#SBATCH") == len(found)
  for option, value in found.items():
    pattern = OPTIONS[option]
    assert re.fullmatch(pattern or "", value), f"--{option}={value}"


def test_a_process_a_gpu():
  for name in SLURM:
    found = directives(name)
    assert found["ntasks-per-node"] == found["gpus-per-node"] == "8"
  one, several = map(directives, SLURM)
  assert (one.pop("nodes"), several.pop("nodes")) == ("1", "2")
  assert one == several


class Strict(pydantic.BaseModel):
  """Of the API's fields those that are used, under their names and types."""

  model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class Variable(Strict):
  name: str
  value: str


class Mount(Strict):
  name: str
  mountPath: str


class Container(Strict):
  name: str
  image: str
  workingDir: str
  env: list[Variable]
  command: list[str]
  ports: list[dict[Literal["containerPort"], int]]
  resources: dict[Literal["limits"], dict[Literal["nvidia.com/gpu"], int]]
  volumeMounts: list[Mount]


class Volume(Strict):
  name: str
  persistentVolumeClaim: dict[Literal["claimName"], str] | None = None
  emptyDir: dict[Literal["medium"], Literal["Memory"]] | None = None


class PodSpec(Strict):
  restartPolicy: Literal["Never", "OnFailure"]
  terminationGracePeriodSeconds: int
  containers: list[Container]
  volumes: list[Volume]


class JobSpec(Strict):
  completionMode: Literal["Indexed"]
  parallelism: int
  completions: int
  backoffLimit: int
  template: dict[Literal["spec"], PodSpec]


class ReplicatedJob(Strict):
  name: str
  replicas: int
  template: dict[Literal["spec"], JobSpec]


class Network(Strict):
  enableDNSHostnames: bool
  subdomain: str


class Spec(Strict):
  network: Network
  failurePolicy: dict[Literal["maxRestarts"], int]
  replicatedJobs: list[ReplicatedJob]


class JobSet(Strict):
  apiVersion: Literal["jobset.x-k8s.io/v1alpha2"]
  kind: Literal["JobSet"]
  metadata: dict[Literal["name"], str]
  spec: Spec


def test_the_jobset_is_one_and_agrees_with_itself():
  made = JobSet.model_validate(yaml.safe_load((FOLDER / "jobset.yaml").read_text()))
  job = made.spec.replicatedJobs[0]
  pods = job.template["spec"]
  pod = pods.template["spec"]
  container = pod.containers[0]
  environment = {variable.name: variable.value for variable in container.env}
  assert str(pods.parallelism) == str(pods.completions) == environment["NODES"]
  assert (FOLDER.parent / f"{environment['STAGE']}.py").exists()
  # JobSet's names of pods: <set>-<job>-<replica>-<index>.<subdomain>.
  host = f"{made.metadata['name']}-{job.name}-0-0.{made.spec.network.subdomain}"
  port = container.ports[0]["containerPort"]
  assert f"--coordinator_address={host}:{port} " in container.command[-1]
  assert {m.name for m in container.volumeMounts} == {v.name for v in pod.volumes}
