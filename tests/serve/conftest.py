"""The tiny model of the sampler's tests, behind a server in this process."""

import dataclasses

import pytest

from tests.sample.conftest import policy
from tests.serve import live
from vpo_jax.serve import engine, limits, metrics, service, web

__all__ = ["policy"]

LIMITS = limits.Limits(body=100_000, prompt_tokens=500, new_tokens=700, candidates=8)


@pytest.fixture(scope="session")
def shared(policy):
  """A service with 4 slots and room for 4 more candidates.

  Its answers end at their limit only: a random model samples a stop token now and then.
  """
  without_end = dataclasses.replace(policy.format, stops=())
  endless = dataclasses.replace(policy, format=without_end)
  running = engine.Engine(endless, slots=4, queue_size=4, warm=False)
  counters = metrics.Metrics(running)
  yield service.Service(endless, running, LIMITS, counters, guard_language="")
  running.close()


@pytest.fixture(scope="session")
def url(shared):
  """The address of a server with that service."""
  with live.serving(web.make(shared)) as address:
    yield address


@pytest.fixture
def scripted(policy):
  """Makes a service whose model answers with the lines of a script."""

  def make(*script, pause=0.0, language="en"):
    running = live.Scripted(policy, script, pause)
    counters = metrics.Metrics(running)
    return service.Service(policy, running, LIMITS, counters, language)

  return make


@pytest.fixture
def app_of():
  """Makes an app from a service, with changed limits."""

  def make(base, key="", **changes):
    changed = dataclasses.replace(base.limits, **changes)
    return web.make(dataclasses.replace(base, limits=changed), key=key)

  return make
