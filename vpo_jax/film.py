"""Best of N by real videos: rewrite a query N times, film the prompts, keep the best.

Each round is the stages `sample` and `score_videos` in `<workdir>/<round>`, so a killed
run continues where it was, and the policy and the video model are never in memory at
the same time.
"""

import dataclasses
import pathlib

import ml_collections
import rich.box
import rich.markup
import rich.table
from etils import epath

from torch_bridge import contract
from vpo_jax import buckets, errors, records, stages
from vpo_jax import queries as queries_lib
from vpo_jax.feedback import bridge, pairing, score_videos
from vpo_jax.runtime import console
from vpo_jax.sample import candidates
from vpo_jax.serve import guard

RESULTS = "film.jsonl"


@dataclasses.dataclass(frozen=True)
class Film:
  """A prompt with its videos.

  Attributes:
    round: from 1.
    reward: mean over its videos.
    groups: the parts of the reward.
    videos: paths of the files.
  """

  prompt: str
  round: int
  reward: float
  groups: dict[str, float]
  videos: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Filmed:
  """A query with everything that was filmed for it.

  Attributes:
    prompt: of the highest reward.
    reward: of that prompt.
    films: all of them, from the highest reward to the lowest.
    rejected: prompts that were not filmed, with the reason.
  """

  query_id: str
  query: str
  prompt: str
  reward: float
  films: tuple[Film, ...]
  rejected: dict[str, str]


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> list[Filmed]:
  """Films prompts for every query of `config.queries` (configs/film.py).

  A prompt that the guard of launch/optimize.py rejects is not filmed. From the second
  round on a query's best prompt is rewritten in place of the query, as long as the
  round before it found a better one; its videos are still scored against the query.

  Returns: one row per query that has a video, also in `<workdir>/film.jsonl`.

  Raises:
    UserError: as the stages raise it, or a number is out of range.
  """
  _check(config)
  workdir = epath.Path(workdir)
  found = _Films(config, workdir)
  for number in range(1, config.rounds + 1):
    if not found.film(number):
      break
  rows = found.rows()
  records.write(workdir / RESULTS, rows)
  _show(rows, workdir)
  if missing := found.count - len(rows):
    console.say(f"{missing} queries have no video: no prompt of theirs can be used")
  return rows


def _check(config: ml_collections.ConfigDict) -> None:
  if not config.queries:
    raise errors.UserError("config.queries: name a file of queries")
  if config.rounds < 1:
    raise errors.UserError(f"config.rounds={config.rounds}: must be at least 1")
  each = config.score_videos.videos_per_prompt
  if config.videos and config.videos < each:
    raise errors.UserError(
      f"config.videos={config.videos}: one prompt already takes {each} videos"
    )
  bridge.check(config.score_videos)


class _Films:
  """What has been filmed so far."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: epath.Path):
    self._config = config
    self._workdir = workdir
    queries, aside = queries_lib.load(config.queries)
    for row in aside:
      console.say(f"{config.queries}: set aside {row.text[:60]!r}: {row.reason}")
    self._queries = {query.id: query for query in queries}
    self._films: dict[str, list[Film]] = {query.id: [] for query in queries}
    self._rejected: dict[str, dict[str, str]] = {query.id: {} for query in queries}
    # What is rewritten in the next round, by query.
    self._sources = {query.id: query.text for query in queries}

  @property
  def count(self) -> int:
    return len(self._queries)

  def film(self, number: int) -> bool:
    """Runs a round; returns whether another one may find better prompts."""
    folder = self._workdir / str(number)
    chosen = self._choose(number, folder)
    if not chosen:
      return False
    records.write(folder / "candidates.jsonl", chosen)
    config = self._config.score_videos.copy_and_resolve_references()
    config.text_check = False
    config.candidates = str(folder / "candidates.jsonl")
    stages.run(score_videos.STAGE, config, folder, self._workdir, own_process=True)
    before = {query: self._best(query) for query in self._films}
    self._read(number, folder)
    self._sources = {
      query: best.prompt
      for query in self._sources
      if (best := self._best(query)) and best != before[query]
      if self._room(query) != 0
    }
    return bool(self._sources)

  def rows(self) -> list[Filmed]:
    return [
      Filmed(
        query.id,
        query.text,
        films[0].prompt,
        films[0].reward,
        tuple(films),
        self._rejected[query.id],
      )
      for query in self._queries.values()
      if (films := self._films[query.id])
    ]

  def _choose(self, number: int, folder: epath.Path) -> list[records.Candidates]:
    """Samples prompts; returns those to film under their queries' own ids."""
    texts = dict.fromkeys(self._sources.values())
    rewritten = folder / "queries.jsonl"
    records.write(
      rewritten, [records.Query(records.row_id(text), text) for text in texts]
    )
    config = self._config.sample.copy_and_resolve_references()
    config.update(queries=str(rewritten), seed=config.seed + number - 1)
    stages.run(candidates.STAGE, config, folder, self._workdir, own_process=True)
    path = folder / candidates.STAGE.name / "candidates.jsonl"
    sampled = {row.query: row for row in records.read(path, records.Candidates)}
    chosen = []
    for identity, text in self._sources.items():
      if row := sampled.get(text):
        fresh = self._fresh(identity, row.candidates)
        query = self._queries[identity].text
        if fresh:
          row = dataclasses.replace(row, query_id=identity, query=query)
          chosen.append(dataclasses.replace(row, candidates=fresh))
    return chosen

  def _fresh(
    self, identity: str, sampled: tuple[records.Candidate, ...]
  ) -> tuple[records.Candidate, ...]:
    """The prompts that can be used, are new and are within the budget."""
    seen = {film.prompt for film in self._films[identity]}
    fresh: dict[str, records.Candidate] = {}
    for candidate in sampled:
      if reason := guard.problem(candidate, self._config.language):
        self._rejected[identity][candidate.prompt] = f"the prompt {reason}"
      elif candidate.prompt not in seen:
        fresh.setdefault(candidate.prompt, candidate)
    return tuple(fresh.values())[: self._room(identity)]

  def _room(self, identity: str) -> int | None:
    """How many more prompts of a query may be filmed; None is any number."""
    if not self._config.videos:
      return None
    each = self._config.score_videos.videos_per_prompt
    return self._config.videos // each - len(self._films[identity])

  def _read(self, number: int, folder: epath.Path) -> None:
    """Adds the round's films, the best first."""
    stage = folder / score_videos.STAGE.name
    scored = [*records.read(stage / "scores.jsonl", records.Scored)]
    store = self._config.score_videos.bridge.store or self._workdir / "store"
    local = contract.Store(pathlib.Path(buckets.scratch(store)))
    for mean in pairing.mean_over_seeds(scored):
      paths = tuple(
        str(local.video(row.video_id))
        for row in scored
        if (row.query_id, row.index) == (mean.query_id, mean.index)
      )
      film = Film(mean.prompt, number, mean.reward, mean.groups, paths)
      self._films[mean.query_id].append(film)
    for films in self._films.values():
      films.sort(key=lambda film: -film.reward)

  def _best(self, query: str) -> Film | None:
    return self._films[query][0] if self._films[query] else None


def _show(rows: list[Filmed], workdir: epath.Path) -> None:
  """All films of a single query, or the best one of each."""
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  table.add_column("reward", justify="right")
  table.add_column("prompt" if len(rows) == 1 else "query and best prompt")
  table.add_column("videos", overflow="fold")
  for row in rows:
    for film in row.films if len(rows) == 1 else row.films[:1]:
      text = film.prompt if len(rows) == 1 else f"{row.query}\n{film.prompt}"
      videos = "\n".join(film.videos)
      table.add_row(f"{film.reward:.2f}", rich.markup.escape(text), videos)
  console.console.print(table)
  videos = sum(len(film.videos) for row in rows for film in row.films)
  console.say(f"{workdir / RESULTS}: {len(rows)} queries, {videos} videos")
