"""Servers for scripts, and a teacher's config that is quick to give up."""

import contextlib

import faulty
import pytest

from configs import teacher as teacher_config
from vpo_jax.teacher import client as client_lib


@pytest.fixture
def served():
  """Starts servers for scripts; they end with the test."""
  with contextlib.ExitStack() as stack:

    def start(script):
      server = faulty.Server(script)
      stack.enter_context(faulty.running(server))
      return server

    yield start


@pytest.fixture
def config(monkeypatch):
  """The teacher's config with a key in the environment, and quick to give up."""
  monkeypatch.setenv("TEST_TEACHER_KEY", "sk-secret-5151")
  monkeypatch.setattr(client_lib, "_BACKOFF", 0.01)
  config = teacher_config.get_config()
  config.api_key_env = "TEST_TEACHER_KEY"
  config.model = "m"
  config.timeout_s = 5.0
  return config
