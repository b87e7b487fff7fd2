"""launch/serve.py as a process: start, user errors, and shutdown."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests import waiting
from vpo_jax import errors
from vpo_jax.serve import server

ROOT = pathlib.Path(__file__).parents[2]


def start(*flags, **environment):
  return subprocess.Popen(
    [sys.executable, ROOT / "launch" / "serve.py", *flags],
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"COLUMNS": "200"} | environment,
  )


def post(url, path, body, key=""):
  headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
  content = json.dumps(body).encode()
  request = urllib.request.Request(f"{url}{path}", content, headers)
  return urllib.request.urlopen(request, timeout=waiting.LIMIT_S)


def test_sigterm_finishes_a_running_stream_and_exits_with_0(tiny_model):
  flags = ("--model", str(tiny_model), "--port=0", "--slots=1", "--api_key_env=VPO_KEY")
  with start(*flags, VPO_KEY="open sesame") as process:
    try:
      started = (re.search(r"http://[\d.:]+", line) for line in process.stderr)
      url = next(found for found in started if found)[0]
      with pytest.raises(urllib.error.HTTPError, match="401") as error:
        post(url, "/optimize", {"query": "a"})
      error.value.close()
      body = {"model": "vpo-chat", "prompt": "hello", "stream": True, "n": 2}
      body |= {"max_tokens": 100, "seed": 1}
      with post(url, "/v1/completions", body, key="open sesame") as reply:
        stream = reply.readline()
        process.send_signal(signal.SIGTERM)
        stream += reply.read()
      assert process.wait(waiting.LIMIT_S) == 0
      assert stream.count(b'"finish_reason": "length"') == 2
      assert stream.endswith(b"data: [DONE]\n\n")
      rest = process.stderr.read()
      assert "all requests were answered" in rest
      assert "open sesame" not in rest
    finally:
      process.kill()


SERVER = """
import sys
from vpo_jax.sample import lm
from vpo_jax.serve import limits, server

server.serve(
  server.bind("127.0.0.1", 0), lm.load(sys.argv[1]), slots=1, queue_size=0,
  limits=limits.Limits(), guard_language="", shutdown_seconds=1,
)
"""


def test_the_server_counts_requests_that_its_end_cuts_off(tiny_model):
  """Two clients never send their bodies; a third has its answer."""
  command = [sys.executable, "-c", SERVER, str(tiny_model)]
  environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
  with (
    subprocess.Popen(
      command, stderr=subprocess.PIPE, text=True, env=environment
    ) as process,
    contextlib.ExitStack() as connections,
  ):
    try:
      started = (re.search(r"http://([\d.]+):(\d+)", line) for line in process.stderr)
      address = next(found for found in started if found)
      for _ in range(2):
        connect = socket.create_connection((address[1], int(address[2])))
        line = connections.enter_context(connect)
        line.sendall(b"POST /optimize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
      body = {"query": "a cat", "max_new_tokens": 1, "guard": False}
      post(address[0], "/optimize", body).close()
      process.send_signal(signal.SIGTERM)
      rest = process.stderr.read()
      assert process.wait(waiting.LIMIT_S) == 0
      assert "stopped: 2 requests were not answered" in rest
    finally:
      process.kill()


def test_an_unavailable_port_is_a_user_error():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(errors.UserError, match=f"--port={port}: Address already in"):
      server.bind("127.0.0.1", port)
  with pytest.raises(errors.UserError, match="--port=99999"):
    server.bind("127.0.0.1", 99999)


def test_a_missing_api_key_is_a_user_error(monkeypatch):
  monkeypatch.delenv("VPO_KEY", raising=False)
  with pytest.raises(errors.UserError, match=r"\$VPO_KEY contains no API key"):
    server.read_api_key("VPO_KEY")
  monkeypatch.setenv("VPO_KEY", "x")
  assert (server.read_api_key("VPO_KEY"), server.read_api_key("")) == ("x", "")
