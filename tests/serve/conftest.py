"""The tiny model of the sampler's tests, behind a server in this process."""

import dataclasses

import pytest

from tests.sample.conftest import policy, tiny
from tests.serve import live
from vpo_jax.serve import engine, limits, metrics, service, web

__all__ = ["policy", "tiny"]

LIMITS = limits.Limits(body=100_000, prompt_tokens=500, new_tokens=700, candidates=8)


@pytest.fixture(scope="session")
def shared(policy):
  """A service with 4 slots and room for 4 more candidates."""
  running = engine.Engine(policy, slots=4, queue_size=4, warm=False)
  counted = metrics.Metrics(running)
  yield service.Service(policy, running, LIMITS, counted, guard_language="")
  running.close()


@pytest.fixture(scope="session")
def url(shared):
  """Where that service is reached."""
  with live.serving(web.make(shared)) as address:
    yield address


@pytest.fixture
def scripted(policy):
  """Makes a service whose model says what it is told to."""

  def make(*script, pause=0.0, language="en"):
    running = live.Scripted(policy, script, pause)
    counted = metrics.Metrics(running)
    return service.Service(policy, running, LIMITS, counted, language)

  return make


@pytest.fixture
def app_of():
  """An app around a service, with a key where one is given."""

  def make(of, key="", **changes):
    changed = dataclasses.replace(of.limits, **changes)
    return web.make(dataclasses.replace(of, limits=changed), key=key)

  return make
