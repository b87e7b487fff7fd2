"""The stage `sample` with a server as its engine, and the same weights here."""

import json
import re

import fastapi
import pytest

from configs import sample as sample_config
from tests.serve import live
from tests.serve.conftest import LIMITS
from vpo_jax import errors, records, stages
from vpo_jax.sample import candidates, generate, settings
from vpo_jax.serve import completions, engine, metrics, service, web

TEXTS = ("a cat on a skateboard", "rain on a tin roof", "two moons", "bees", "a kite")


@pytest.fixture(scope="module")
def served(policy):
  running = engine.Engine(policy, slots=4, queue_size=64, warm=False)
  yield service.Service(policy, running, LIMITS, metrics.Metrics(running), "")
  running.close()


@pytest.fixture
def app(served):
  return web.make(served)


@pytest.fixture
def workdir(tmp_path):
  rows = [records.Query(records.row_id(text), text) for text in TEXTS]
  records.write(tmp_path / "curate" / "dpo.jsonl", rows)
  return tmp_path


def config_for(tiny_model, url, **changes):
  config = sample_config.get_config()
  config.update(model=str(tiny_model), num_candidates=2, max_new_tokens=12, seed=3)
  config.update(engine="openai", queries_per_part=1)
  config.openai.update(base_url=f"{url}/v1", model=completions.CHAT, retries=0)
  config.openai.update(parallel=1)
  config.update(changes)
  return config


def rows_of(workdir):
  return list(records.read(workdir / "sample" / "candidates.jsonl", records.Candidates))


def refused(config, workdir):
  with pytest.raises(errors.UserError) as caught:
    stages.run(candidates.STAGE, config, workdir)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_candidates_are_those_of_the_sampler_with_the_recorded_seed(
  app, workdir, tiny_model, policy
):
  """Our server gets exact tokens and the seed, so it draws what `generate` draws."""
  with live.serving(app) as url:
    counts = stages.run(candidates.STAGE, config_for(tiny_model, url), workdir)
  rows = rows_of(workdir)
  assert [row.query for row in rows] == list(TEXTS)
  assert counts["candidates"] == 10
  assert len({row.settings["seed"] for row in rows}) == len(TEXTS)
  for row in rows:
    assert row.model == policy.fingerprint()
    assert row.settings["served_model"] == completions.CHAT
    assert row.settings["temperature"] == 0.9
    wanted = settings.Settings(
      num_candidates=2,
      temperature=0.9,
      top_p=0.9,
      max_new_tokens=12,
      seed=row.settings["seed"],
    )
    (ours,) = generate.generate(policy, [policy.prompt(row.query)], wanted)
    assert [(c.prompt, c.finish_reason) for c in row.candidates] == [
      (c.prompt, c.finish_reason) for c in ours
    ]


def test_a_server_that_fails_costs_no_finished_query(
  app, served, workdir, tiny_model, tmp_path_factory
):
  seen = []

  async def failing(scope, receive, send):
    if scope["type"] == "http" and scope["path"].endswith("/completions"):
      seen.append(scope["path"])
      if len(seen) == 3:
        reply = fastapi.responses.JSONResponse({"error": {"message": "no memory"}}, 500)
        return await reply(scope, receive, send)
    return await app(scope, receive, send)

  with live.serving(failing) as url:
    config = config_for(tiny_model, url)
    assert "no memory" in refused(config, workdir)
    stages.run(candidates.STAGE, config, workdir)
    assert len(seen) == len(TEXTS) + 1
    whole = tmp_path_factory.mktemp("whole")
    config.queries = str(workdir / "curate" / "dpo.jsonl")
    stages.run(candidates.STAGE, config, whole)
  assert rows_of(workdir) == rows_of(whole)


def test_wrong_servers_are_one_line(app, workdir, tiny_model, monkeypatch):
  with live.serving(app) as url:
    config = config_for(tiny_model, url)
    config.openai.model = "policy"
    line = refused(config, workdir)
    assert "config.openai.model='policy'" in line
    assert re.search(r"has vpo, vpo-chat$", line)
  assert "cannot be reached" in refused(config, workdir)  # it has ended
  config.openai.api_key_env = "NO_SUCH_KEY"
  assert "NO_SUCH_KEY holds no key" in refused(config, workdir)
  config = config_for(tiny_model, url, engine="vllm")
  assert "must be jax or openai" in refused(config, workdir)
  config = config_for(tiny_model, url)
  config.openai.parallel = 0
  assert "config.openai.parallel=0: must be at least 1" in refused(config, workdir)
  config = config_for(tiny_model, url, generation_prompt=False)
  assert "generation_prompt=True" in refused(config, workdir)


def test_a_wrong_key_is_not_shown(served, workdir, tiny_model, monkeypatch):
  monkeypatch.setenv("SAMPLER_KEY", "sk-very-secret")
  with live.serving(web.make(served, key="sk-other")) as url:
    config = config_for(tiny_model, url)
    config.openai.api_key_env = "SAMPLER_KEY"
    line = refused(config, workdir)
  assert "API key" in line
  assert "secret" not in line


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"usage": {"prompt_tokens": 7}}, "read 7 tokens of a prompt of"),
    ({"choices": []}, "returned 0 candidates, not 2"),
    ({"finish_reason": "abort"}, "ended a candidate with 'abort'"),
  ],
)
def test_replies_that_cannot_be_candidates(change, message, workdir, tiny_model):
  """From servers that tokenize a prompt again, ignore n, or give up."""
  app = fastapi.FastAPI()

  @app.get("/v1/models")
  async def models():
    return {"object": "list", "data": [{"id": completions.CHAT, "object": "model"}]}

  @app.post("/v1/completions")
  async def complete(request: fastapi.Request):
    body = json.loads(await request.body())
    ended = change.get("finish_reason", "stop")
    choices = [
      {"index": index, "text": "a", "finish_reason": ended}
      for index in range(body["n"])
    ]
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1}
    return {"choices": choices, "usage": usage, **change}

  with live.serving(app) as url:
    assert message in refused(config_for(tiny_model, url), workdir)
