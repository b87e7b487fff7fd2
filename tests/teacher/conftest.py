"""Scripted servers, and a teacher's config with short timeouts."""

import contextlib

import faulty
import pytest

from configs import teacher as teacher_config


@pytest.fixture
def served():
  """Starts servers that answer by a script; they stop when the test ends."""
  with contextlib.ExitStack() as stack:

    def start(script):
      server = faulty.Server(script)
      stack.enter_context(faulty.running(server))
      return server

    yield start


@pytest.fixture
def config(monkeypatch):
  """The teacher's config with a key in the environment and a short timeout."""
  monkeypatch.setenv("TEST_TEACHER_KEY", "sk-secret-5151")
  config = teacher_config.get_config()
  config.api_key_env = "TEST_TEACHER_KEY"
  config.model = "m"
  config.timeout_s = 60.0
  return config
