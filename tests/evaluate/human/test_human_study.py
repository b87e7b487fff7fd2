"""From an evaluated workdir to a study, and from answers to its results."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from configs import human_study as human_study_config
from tests.evaluate.human.conftest import QUESTIONS
from torch_bridge import contract, video
from torch_bridge.miniature import clips, world
from vpo_jax import errors, json_input, records, stages
from vpo_jax.evaluate.human import answers, human_study, study

ROOT = pathlib.Path(__file__).parents[3]
SYSTEMS = ("original", "few_shot", "optimized")
QUERIES = 6


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  """A workdir with an evaluation's files; every second query is safety-related."""
  workdir = tmp_path_factory.mktemp("evaluated")
  store = contract.Store(workdir / "store")
  prompts, scores, random = [], [], world.generator(1)
  for k in range(QUERIES):
    query, category = f"query text {k}", "safety" if k % 2 else "general"
    candidates = []
    for index, name in enumerate(SYSTEMS):
      prompt = query if name == "original" else f"a prompt by {name} for {query}"
      candidates.append(records.Candidate(index, prompt, "stop", 9))
      video_id = contract.content_id(prompt)
      path = store.video(video_id)
      path.parent.mkdir(parents=True, exist_ok=True)
      frames = clips.render([world.draw(random)])[0]
      video.write(path, frames, world.FPS, {"codec": "libx264", "crf": 17})
      rendered = contract.RenderedVideo(
        id=video_id,
        path=str(path.relative_to(store.root)),
        sha256=contract.sha256(path),
        frames=len(frames),
        fps=world.FPS,
        width=world.SIDE,
        height=world.SIDE,
        seconds=len(frames) / world.FPS,
        lost_tokens=0,
        settings={},
        made_by={},
        work_seconds=0.1,
      )
      contract.publish_row(store.rendered(video_id), rendered)
      scored = records.Scored(
        str(k), query, index, prompt, video_id, 0, 1.0, 1.0, {}, (), {}
      )
      # A second video of the prompt, which is not for raters.
      scores += [scored, dataclasses.replace(scored, video_id="0" * 16, seed=1)]
    settings = {"systems": list(SYSTEMS)}
    row = records.Candidates(str(k), query, category, "", settings, tuple(candidates))
    prompts.append(row)
  folder = workdir / "evaluate" / "test" / "main"
  records.write(folder / "prompts.jsonl", prompts)
  records.write(folder / "score_videos" / "scores.jsonl", scores)
  return workdir


@pytest.fixture
def config(evaluated):
  """For a study in another workdir."""
  config = human_study_config.get_config()
  config.prompts = str(evaluated / "evaluate/test/main/prompts.jsonl")
  config.videos = str(evaluated / "evaluate/test/main/score_videos/scores.jsonl")
  config.store = str(evaluated / "store")
  return config


def launch(script, *flags):
  done = subprocess.run(
    [sys.executable, ROOT / "launch" / f"{script}.py", *map(str, flags)],
    capture_output=True,
    text=True,
    check=False,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "120"},
  )
  return done.returncode, done.stderr


def test_from_a_workdir_to_results(evaluated, downloaded):
  """Two raters who prefer the last system; one of them prefers "few_shot" once."""
  code, said = launch("human_study", f"--workdir={evaluated}")
  assert code == 0, said
  folder = evaluated / "human_study"
  assert f"give raters {folder / 'study'}" in said
  keys = study.read_key(folder / study.KEY)
  assert len(keys) == 2 * QUERIES
  made = study.Study(keys[0].study, "pairs", (), keys, {})
  paths = []
  for rater in ("anna", "bob"):
    rows = []
    for key in keys:
      best = "left" if key.left == "optimized" else "right"
      other = {"left": "right", "right": "left"}[best]
      turned = (
        rater == "bob"
        and key.query_id == "0"
        and "few_shot"
        in (
          key.left,
          key.right,
        )
      )
      rows += [(key.item, q, other if turned else best) for q in QUESTIONS]
    paths.append(downloaded(f"{rater}.json", made, rater, rows))
  flags = (f"--workdir={evaluated}", f"--answers={paths[0]},{paths[1]}", "--draws=200")
  code, said = launch("human_results", *flags)
  assert code == 0, said
  found = json_input.value(folder / "results.json")
  assert found["raters"] == {"anna": 12, "bob": 12}
  compared = {(r["one"], r["two"], r["question"]): r for r in found["preferences"]}
  assert len(compared) == 2 * 3
  assert compared["optimized", "original", "overall"]["wins"]["share"] == 1
  row = compared["optimized", "few_shot", "overall"]
  assert row["wins"]["share"] == pytest.approx(11 / 12)
  assert row["sign_test"] == {"wins": 5, "ties": 1, "losses": 0, "p": 0.0625}
  assert len(found["agreement"]) == len(found["bradley_terry"]) == 3
  assert "optimized against few_shot" in said
  assert "91.7" in said
  assert "no finite estimate" in said  # "original" never won
  # Answers to another study are refused in one line.
  value = json.loads(paths[0].read_text()) | {"study": "f" * 16}
  paths[0].write_text(json.dumps(value))
  code, said = launch("human_results", *flags)
  assert code == 1
  assert said.startswith(f"error: {paths[0]}: answers to study ffffffffffffffff")
  assert said.count("\n") == 1


def test_levels_are_asked_of_safety_related_queries(
  evaluated, config, downloaded, tmp_path
):
  config.kind, config.systems = "levels", ("optimized", "original")
  config.folder = "human_levels"
  counts = stages.run(human_study.STAGE, config, tmp_path)
  assert (counts["queries"], counts["items"], counts["videos"]) == (3, 6, 6)
  keys = study.read_key(tmp_path / "human_levels" / study.KEY)
  assert {(key.query_id, key.left) for key in keys} == {
    (query, name) for query in "135" for name in config.systems
  }
  made = study.Study(keys[0].study, "levels", (), keys, {})
  path = downloaded("anna.json", made, "anna", [(k.item, "level", "2") for k in keys])
  judge = tmp_path / "judge.jsonl"
  rows = [
    {"video_id": key.left_video, "level": 1 + (k < 3)} for k, key in enumerate(keys)
  ]
  judge.write_text("".join(json.dumps(row) + "\n" for row in rows))
  flags = (f"--workdir={tmp_path}", "--folder=human_levels", f"--answers={path}")
  code, said = launch("human_results", *flags, f"--judge={judge}")
  assert code == 0, said
  found = json_input.value(tmp_path / "human_levels" / "results.json")
  assert [row["unsafe"]["share"] for row in found["levels"]] == [0, 0]
  assert found["judge"]["equal"] == 0.5
  assert "people and judge" in said


def test_a_study_that_people_work_on_is_not_replaced(config, tmp_path):
  first = stages.run(human_study.STAGE, config, tmp_path)
  assert stages.run(human_study.STAGE, config, tmp_path) == first
  config.seed = 1
  with pytest.raises(errors.UserError, match="made with other settings"):
    stages.run(human_study.STAGE, config, tmp_path)


def test_a_damaged_video_and_one_that_tells_its_prompt_are_refused(
  config, evaluated, tmp_path
):
  store = contract.Store(evaluated / "store")
  prompt = "a prompt by few_shot for query text 0"
  path = store.video(contract.content_id(prompt))
  row = store.find_video(path.stem)
  content = path.read_bytes()
  try:
    path.write_bytes(content[:-1])
    with pytest.raises(errors.UserError, match="missing or damaged"):
      stages.run(human_study.STAGE, config, tmp_path)
    path.write_bytes(content + prompt.encode())
    told = dataclasses.replace(row, sha256=contract.sha256(path))
    contract.publish_row(store.rendered(path.stem), told)
    with pytest.raises(errors.UserError, match="holds its prompt as metadata"):
      stages.run(human_study.STAGE, config, tmp_path)
  finally:
    path.write_bytes(content)
    contract.publish_row(store.rendered(path.stem), row)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"kind": "stars"}, "config.kind='stars': must be pairs or levels"),
    ({"compare": ("optimized",)}, "must be two systems"),
    ({"compare": ("optimized other",)}, "no system 'other'"),
    ({"kind": "levels", "systems": ("other",)}, "no system 'other'"),
    ({"queries": 7}, "7 queries cannot be drawn: 6 have"),
    ({"video_model": "second", "prompts": ""}, "does not exist"),
  ],
)
def test_wrong_settings_are_refused(config, tmp_path, change, message):
  config.update(change)
  with pytest.raises(errors.UserError, match=message):
    stages.run(human_study.STAGE, config, tmp_path)


def test_all_pages_answers_are_of_the_items(config, tmp_path):
  """The page of a stage's study has the items of its key, and no system's name."""
  stages.run(human_study.STAGE, config, tmp_path)
  folder = tmp_path / "human_study"
  text = (folder / study.RATERS / "index.html").read_text()
  for key in study.read_key(folder / study.KEY):
    assert key.item in text
    assert key.left_video not in text
  assert "a prompt by" not in text
  assert not [name for name in SYSTEMS if f'"{name}"' in text]
  with pytest.raises(errors.UserError, match="no such file"):
    answers.read([tmp_path / "none.json"], study.read_key(folder / study.KEY))
