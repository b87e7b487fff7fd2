"""launch/serve.py as it is run: one line where it cannot, and a clean end."""

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
  return urllib.request.urlopen(request, timeout=120)


def test_sigterm_finishes_what_is_begun(tiny):
  """A stream that is under way comes to its end; then the exit status is 0."""
  flags = ("--model", str(tiny), "--port=0", "--slots=4", "--api_key_env=VPO_KEY")
  with start(*flags, VPO_KEY="open sesame") as process:
    try:
      started = (re.search(r"http://[\d.:]+", line) for line in process.stderr)
      url = next(found for found in started if found)[0]
      with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        post(url, "/optimize", {"query": "a"})
      refused.value.close()
      body = {"model": "vpo-chat", "prompt": "hello", "stream": True, "n": 8}
      body |= {"max_tokens": 200, "seed": 1}
      with post(url, "/v1/completions", body, key="open sesame") as reply:
        told = reply.readline()
        process.send_signal(signal.SIGTERM)
        told += reply.read()
      assert process.wait(60) == 0
      assert told.count(b'"finish_reason": "length"') == 8
      assert told.endswith(b"data: [DONE]\n\n")
      rest = process.stderr.read()
      assert "every request was answered" in rest
      assert "open sesame" not in rest
    finally:
      process.kill()


def test_a_port_in_use_is_one_line():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(errors.UserError, match=f"--port={port}: Address already in"):
      server.bind("127.0.0.1", port)
  with pytest.raises(errors.UserError, match="--port=99999"):
    server.bind("127.0.0.1", 99999)


def test_a_key_that_is_asked_for_must_be_there(monkeypatch):
  monkeypatch.delenv("VPO_KEY", raising=False)
  with pytest.raises(errors.UserError, match=r"\$VPO_KEY holds no API key"):
    server.key_of("VPO_KEY")
  monkeypatch.setenv("VPO_KEY", "x")
  assert (server.key_of("VPO_KEY"), server.key_of("")) == ("x", "")
