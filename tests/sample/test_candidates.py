"""The stage makes what is missing and nothing else."""

import json
import pathlib
import shutil

import pytest

from configs import sample as sample_config
from vpo_jax import errors, records, stages
from vpo_jax.sample import candidates, generate

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = ("a cat on a skateboard", "rain on a tin roof", "two moons", "x " * 2000)


@pytest.fixture
def workdir(tmp_path):
  rows = [records.Query(records.row_id(text), text) for text in TEXTS]
  records.write(tmp_path / "curate" / "dpo.jsonl", rows)
  return tmp_path


def config_for(tiny_model, **changes):
  config = sample_config.get_config()
  config.update({"model": str(tiny_model), "num_candidates": 2, "max_new_tokens": 12})
  config.update({"slots": 4, "queries_per_part": 1, "max_prompt_tokens": 512})
  config.mesh.update(data=1, devices=1)
  config.update(changes)
  return config


def rows_of(workdir):
  return list(records.read(workdir / "sample" / "candidates.jsonl", records.Candidates))


def test_every_query_gets_its_candidates(workdir, tiny_model):
  counts = stages.run(candidates.STAGE, config_for(tiny_model), workdir)
  rows = rows_of(workdir)
  assert [row.query for row in rows] == list(TEXTS[:3])
  assert [[c.index for c in row.candidates] for row in rows] == [[0, 1]] * 3
  every = [c for row in rows for c in row.candidates]
  assert all(c.tokens == 12 for c in every if c.finish_reason == "length")
  assert counts["candidates"] == 6
  assert counts["stopped"] + counts["cut_by_length"] == 6
  assert counts["set_aside"] == 1
  aside = records.read(workdir / "sample" / "set_aside.jsonl", records.SetAside)
  assert ["tokens, more than" in row.reason for row in aside] == [True]
  assert rows[0].settings["temperature"] == 0.9
  assert rows[0].settings["precision"] == "float32"
  assert stages.run(candidates.STAGE, config_for(tiny_model), workdir) == counts


def test_a_killed_run_makes_only_what_is_missing(
  workdir, tiny_model, monkeypatch, tmp_path
):
  stages.run(candidates.STAGE, config_for(tiny_model), workdir)
  whole = rows_of(workdir)
  again = tmp_path / "again"
  (again / "curate").mkdir(parents=True)
  shutil.copy(workdir / "curate" / "dpo.jsonl", again / "curate")
  stream, seen = generate.stream, []

  def killed(policy, prompts, wanted, **kwargs):
    for number, made in enumerate(stream(policy, prompts, wanted, **kwargs)):
      if number == 2:
        raise KeyboardInterrupt
      yield made

  monkeypatch.setattr(generate, "stream", killed)
  with pytest.raises(KeyboardInterrupt):
    stages.run(candidates.STAGE, config_for(tiny_model), again)

  def watched(policy, prompts, wanted, **kwargs):
    seen.extend(prompts)
    yield from stream(policy, prompts, wanted, **kwargs)

  monkeypatch.setattr(generate, "stream", watched)
  stages.run(candidates.STAGE, config_for(tiny_model), again)
  assert len(seen) == 1
  assert rows_of(again) == whole


def test_processes_share_the_queries(workdir, tiny_model, tmp_path):
  first = stages.run(candidates.STAGE, config_for(tiny_model, share="0/2"), workdir)
  assert first["missing"] == 2
  assert not (workdir / "sample" / "candidates.jsonl").exists()
  second = stages.run(candidates.STAGE, config_for(tiny_model, share="1/2"), workdir)
  assert second["queries"] == 3
  assert [row.query for row in rows_of(workdir)] == list(TEXTS[:3])


def test_released_rows_are_input_as_they_are(tmp_path, tiny_model):
  rows = [
    {"messages": [{"role": "user", "content": f"User Query:{t}\n\nVideo Prompt:"}]}
    for t in (*TEXTS[:2], TEXTS[0])
  ]
  (tmp_path / "vpo.json").write_text(json.dumps(rows))
  config = config_for(tiny_model, queries=str(tmp_path / "vpo.json"))
  assert stages.run(candidates.STAGE, config, tmp_path)["set_aside"] == 1
  assert [row.query for row in rows_of(tmp_path)] == list(TEXTS[:2])
  aside = records.read(tmp_path / "sample" / "set_aside.jsonl", records.SetAside)
  assert [row.reason for row in aside] == ["repeats an earlier row"]


def test_a_missing_model_is_one_line(workdir, tiny_model):
  with pytest.raises(errors.UserError, match="no-such"):
    stages.run(candidates.STAGE, config_for(tiny_model, model="./no-such"), workdir)


def test_a_model_is_sampled_with_its_own_instruction(workdir, tiny_model, monkeypatch):
  """Unless the config names another; it is stored beside the candidates."""
  model, mine = workdir / "model", workdir / "mine.txt"
  shutil.copytree(tiny_model, model)
  (model / "instruction.txt").write_text("Own: {query}")
  mine.write_text("Mine: {query}")
  stream, given = generate.stream, []

  def listen(policy, prompts, *args, **options):
    given.extend(prompt.rendered for prompt in prompts)
    return stream(policy, prompts, *args, **options)

  monkeypatch.setattr(generate, "stream", listen)
  for path, start in (("", "Own: "), (str(mine), "Mine: ")):
    given.clear()
    config = config_for(model, instruction=path, num_candidates=1)
    config.queries = str(workdir / "curate" / "dpo.jsonl")
    stages.run(candidates.STAGE, config, workdir / start[:3])
    assert [f"{start}{text}" in given[i] for i, text in enumerate(TEXTS[:3])] == [
      True
    ] * 3
    stored = workdir / start[:3] / "sample" / "instruction.txt"
    assert stored.read_text() == start + "{query}"


def test_the_notes_of_a_target_are_in_every_prompt(workdir, tiny_model, monkeypatch):
  given, stream = [], generate.stream

  def listen(policy, prompts, *args, **options):
    given.extend(prompt.rendered for prompt in prompts)
    return stream(policy, prompts, *args, **options)

  monkeypatch.setattr(generate, "stream", listen)
  target = ROOT / "torch_bridge" / "miniature" / "targets" / "main.json"
  config = config_for(tiny_model, target=str(target), num_candidates=1)
  stages.run(candidates.STAGE, config, workdir)
  notes = json.loads(target.read_text())["notes"]
  for text, prompt in zip(TEXTS[:3], given, strict=True):
    assert f"{notes}\n\nUser Query:{text}" in prompt
  assert notes in (workdir / "sample" / "instruction.txt").read_text()


def test_an_instruction_without_a_place_for_notes_is_one_line(workdir, tiny_model):
  path = workdir / "mine.txt"
  path.write_text("Mine: {query}")
  target = str(ROOT / "torch_bridge" / "miniature" / "targets" / "main.json")
  config = config_for(tiny_model, instruction=str(path), target=target)
  with pytest.raises(errors.UserError, match="the instruction has no placeholder"):
    stages.run(candidates.STAGE, config, workdir)
