"""Client packages get what the sampler draws: plain, streamed, n > 1, async, usage."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import waiting
from tests.serve import clients
from vpo_jax.sample import generate, settings

# `make test` installs the packages of clients.txt here.
ENVIRONMENT = pathlib.Path(sys.prefix, "clients")
PYTHON = ENVIRONMENT / "bin" / "python"

# OpenAI's client also in the version that the project itself is tested with.
MATRIX = [("openai", pathlib.Path(sys.executable))]
MATRIX += [(name, PYTHON) for name in clients.CLIENTS]
IDS = ["openai (constraints.txt)", *clients.CLIENTS]


@pytest.fixture(scope="module", params=MATRIX, ids=IDS)
def answers(request, url):
  """The answers that one client got, as of clients.py."""
  name, python = request.param
  assert python.exists(), f"no {ENVIRONMENT}: make test installs it"
  command = [python, clients.__file__, name, f"{url}/v1"]
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  result = subprocess.run(
    command, capture_output=True, text=True, timeout=waiting.LIMIT_S, env=environment
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def prompt(policy):
  return policy.prompt(clients.QUERY)


@pytest.fixture(scope="module")
def expected(shared, prompt):
  sampling = settings.Settings(
    num_candidates=2, max_new_tokens=clients.TOKENS, seed=clients.SEED
  )
  (rows,) = generate.generate(shared.policy, [prompt], sampling, slots=4)
  return [row.prompt for row in rows]


@pytest.mark.parametrize("kind", ["plain", "stream", "async", "async_stream"])
def test_an_answer_is_what_the_sampler_draws(answers, expected, kind):
  assert answers[kind] == expected[0]


def test_two_answers(answers, expected):
  assert answers["n"] == expected
  assert expected[0] != expected[1]


@pytest.mark.parametrize("kind", ["usage", "stream_usage"])
def test_usage(answers, prompt, kind):
  assert answers[kind] == [len(prompt.tokens), clients.TOKENS]
