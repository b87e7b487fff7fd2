"""A report of many queries: real videos, drawn values."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
from etils import epath

from configs import evaluate as evaluate_config
from tests.evaluate.test_evaluate import miniature
from torch_bridge import contract, video
from torch_bridge.miniature import clips, world
from vpo_jax import records, stages, templates
from vpo_jax.evaluate import measures, numbered, paper, reward_gains, systems
from vpo_jax.evaluate.html import write
from vpo_jax.evaluate.suites import base, measured, test

SYSTEMS = ("original=query", "few_shot=teacher", "sft=a", "ablated=b", "vpo=c")
GROUPS = ("alignment", "stability", "preservation", "physics")
HOSTILE = (
  "</script><script>document.title = 'broken'</script><!-- <script>",
  "\"quotes\" 'and' `more` ${document.title = 'broken'} \\u0022 \\",
  "line\u2028separator\u2029and\x00control\x07characters\nnew line",
  "قطة حمراء على لوح تزلج \u202e reversed",
  '<img src=x onerror="document.title=1"> &amp; &lt;b&gt;',
)
NOTE = "drawn values </p><b>"


@dataclasses.dataclass(frozen=True)
class Made:
  """A report and what it was made from; `found` and `values` are of the suite "test".

  A report of two video models has a second suite, "query_alignment", with the same
  prompts and verdicts and no videos.
  """

  path: pathlib.Path
  found: base.Found
  values: list[measures.Measure]
  results: dict

  def of(self, name):
    """A measure's values by system and query."""
    (one,) = [m for m in self.values if m.name == name and m.model in ("main", "")]
    return one.values

  @property
  def store(self):
    return contract.Store(pathlib.Path(self.found.work.store))

  def write(self):
    reference = paper.parse(self.found.config.compare, {"main": "CogVideoX-2B"})
    found, values = {"test": self.found}, {"test": self.values}
    if len(self.found.videos) > 1:
      judged = dataclasses.replace(self.found, videos={}, scores={})
      found["query_alignment"] = judged
      values["query_alignment"] = [one for one in self.values if not one.model]
    write.write(self.found.work, self.results, reference, found, values)


@pytest.fixture(scope="session")
def make_report(tmp_path_factory):
  """Writes a report of `count` queries and five systems."""

  def make(count, models=("main",), **report):
    folder = epath.Path(tmp_path_factory.mktemp("report"))
    config = miniature(evaluate_config.get_config())
    config.update(systems=SYSTEMS, note=NOTE)
    config.report.update(report)
    config.compare.draws = 20
    work = stages.Work("evaluate", config, folder / "evaluate", folder, folder, {})
    found = _found(work, count, models)
    made_by = (*test.SUITE.measures, measured.prompts)
    values = [one for of in made_by for one in of(found)]
    results = _results(found, values)
    reference = paper.parse(config.compare, {"main": "CogVideoX-2B"})
    results |= numbered.tables_and_figures(results, reference, {})
    made = Made(pathlib.Path(work.folder / write.NAME), found, values, results)
    made.write()
    return made

  return make


def _results(found, values):
  labels = {query: item.labels for query, item in found.items.items()}
  pairs, config = measures.pairs(found.chosen), found.config.compare
  suite = {
    "title": test.SUITE.title,
    "queries": len(found.items),
    "all_queries": len(found.items) + 1,
    "systems": [one.name for one in found.chosen],
    "measures": [measures.summarize(one, pairs, labels, config) for one in values],
  }
  gains = reward_gains.summarize({"test": suite}, {"test": values}, config)
  return {
    "note": NOTE,
    "setup": [{"part": "policy", "model": "<b>m</b>", "revision": ""}],
    "provenance": {"commit": "</script>"},
    "systems": {one.name: {"source": one.source, "of": ""} for one in found.chosen},
    "suites": {"test": suite | {"reward_gains": gains["test"]}},
  }


def _found(work, count, models):
  random = np.random.default_rng(count)
  chosen = systems.parse(SYSTEMS)
  place = work.root / "suites" / "test"
  items, rows, scores = {}, [], {one.name: {} for one in chosen}
  verdicts = {one.name: {} for one in chosen}
  links = _clips(work.root / "clips")
  store = contract.Store(pathlib.Path(work.store))
  for n in range(count):
    text = HOSTILE[n] if n < len(HOSTILE) else f"query {n} of a {_words(random, 12)}"
    query = records.Query(str(n), text, "safety" if n % 4 == 1 else "general")
    kind = ("</option><b>", "two words", "three")[n % 3]
    items[query.id] = base.Item(query, {"category": (query.category,), "kind": (kind,)})
    prompts = [text, *(f"{text} {_words(random, 100)}" for _ in chosen[1:])]
    rows.append(_row(query, prompts))
    for k, one in enumerate(chosen):
      verdicts[one.name][query.id] = templates.VERDICTS[random.integers(4)]
      scored = _scored(random, query, k, prompts[k])
      scores[one.name][query.id] = [scored]
      target = store.video(scored.video_id)
      target.parent.mkdir(parents=True, exist_ok=True)
      os.link(links[random.integers(len(links))], target)
  for k, one in enumerate(chosen):
    first = dataclasses.replace(rows[0], candidates=rows[0].candidates[k : k + 1])
    records.write(systems.candidates(place, one), [first])
  return base.Found(
    config=work.config,
    chosen=chosen,
    items=items,
    rows=rows,
    verdicts=verdicts,
    videos=dict.fromkeys(models, scores),
    scores=dict.fromkeys(models, scores),
    folder=work.folder / "test",
    place=place,
    work=work,
  )


def _words(random, count):
  return " ".join(f"word{k}" for k in random.integers(0, 999, count))


def _row(query, prompts):
  return records.Candidates(
    query_id=query.id,
    query=query.text,
    category=query.category,
    model="policy",
    settings={"temperature": 0.7},
    candidates=tuple(
      records.Candidate(k, prompt, "stop", 120) for k, prompt in enumerate(prompts)
    ),
  )


def _scored(random, query, k, prompt):
  # Few distinct values, so that there are ties.
  groups = {name: round(float(random.integers(0, 4)) / 4, 2) for name in GROUPS}
  return records.Scored(
    query_id=query.id,
    query=query.text,
    index=k,
    prompt=prompt,
    video_id=records.row_id("video", query.id, k),
    seed=0,
    reward=sum(groups.values()),
    signed=0.0,
    groups=groups,
    yes=(),
    scalars={"splatter": float(random.random() * 0.08), "fire": 0.0},
  )


def _clips(folder):
  """Four seconds of four scenes."""
  folder.mkdir()
  random = world.generator(0)
  paths = []
  for k, clip in enumerate(clips.render([world.draw(random) for _ in range(4)])):
    again = np.concatenate([clip] * max(1, round(4 * world.FPS / len(clip))))
    path = folder / f"{k}.mp4"
    video.write(pathlib.Path(path), again, world.FPS, {"codec": "libx264", "crf": 17})
    paths.append(path)
  return paths
