"""`config.teacher.server` names a module that starts a server for a stage."""

import local_server
import pytest
import test_build_sft

from vpo_jax import errors, json_input, stages
from vpo_jax.teacher import build_sft

queries = test_build_sft.queries
stage_config = test_build_sft.stage_config


@pytest.fixture
def served_config(stage_config):
  stage_config.teacher.server = "local_server"
  stage_config.teacher.server_options = {"flawed": ["boats"]}
  return stage_config


def test_the_server_runs_only_while_the_stage_asks(served_config, queries, tmp_path):
  counts = stages.run(build_sft.STAGE, served_config, tmp_path)
  assert (counts["examples"], counts["refined"]) == (4, 1)
  assert not local_server.running
  recorded = json_input.value(tmp_path / "build_sft/manifest.json")["config"]["teacher"]
  assert recorded["server_options"] == {"flawed": ["boats"]}


def test_other_options_are_other_results(served_config, queries, tmp_path):
  stages.run(build_sft.STAGE, served_config, tmp_path)
  served_config.teacher.server_options.flawed = []
  with pytest.raises(errors.UserError, match=r"teacher\.server_options"):
    stages.run(build_sft.STAGE, served_config, tmp_path)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"server": "no.such.module"}, r"server='no\.such\.module': No module named"),
    ({"server": "faulty"}, r"server='faulty': .* no attribute 'serve'"),
    ({"server_options": {"lazy": 1.0}}, r"server='local_server': options \['lazy'\]"),
    ({"base_url": "http://127.0.0.1:1/v1"}, "set only one"),
  ],
)
def test_wrong_settings_are_reported_before_the_stage_begins(
  served_config, queries, tmp_path, settings, message
):
  for name, value in settings.items():
    del served_config.teacher[name]
    served_config.teacher[name] = value
  with pytest.raises(errors.UserError, match=message):
    stages.run(build_sft.STAGE, served_config, tmp_path)
  assert not (tmp_path / "build_sft").exists()
