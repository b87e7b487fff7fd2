"""A real S3-compatible server on loopback (moto), in a process of its own."""

import os
import subprocess
import sys
import uuid

import pytest

from tests import waiting

_SERVER = """
import sys
from moto import server
running = server.ThreadedMotoServer(port=0, verbose=False)
running.start()
print(running.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def endpoint():
  """The server's address, in the environment of this process and of its children."""
  process = subprocess.Popen(
    [sys.executable, "-c", _SERVER],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  address = f"http://127.0.0.1:{int(process.stdout.readline())}"
  names = {
    "AWS_ENDPOINT_URL": address,
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
  }
  before = {name: os.environ.get(name) for name in names}
  os.environ.update(names)
  yield address
  for name, value in before.items():
    os.environ.pop(name) if value is None else os.environ.update({name: value})
  process.stdin.close()
  process.stdout.close()
  process.wait(timeout=waiting.LIMIT_S)


@pytest.fixture
def bucket(endpoint, tmp_path, monkeypatch):
  """An empty bucket, s3://NAME, with an empty scratch folder.

  At the end no folder may be named "s3:": a path that a library took for a local one.
  """
  import fsspec
  from etils import epath

  monkeypatch.setenv("VPO_JAX_SCRATCH", str(tmp_path / "scratch"))
  name = f"bucket-{uuid.uuid4().hex}"
  fsspec.filesystem("s3").mkdir(name)
  yield epath.Path(f"s3://{name}")
  wrong = [parent for parent, folders, _ in os.walk(tmp_path) if "s3:" in folders]
  assert not wrong, wrong
  assert not os.path.exists("s3:")  # in the current folder
