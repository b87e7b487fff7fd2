"""Videos and their scores from the torch bridge, for any number of prompts.

The bridge is a separate program that may run in another Python environment; see
torch_bridge/README.md.
"""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ml_collections
from etils import epath

from torch_bridge import contract, questions, shards
from vpo_jax import buckets, errors
from vpo_jax.feedback import identity, jobs, rewards, workers
from vpo_jax.feedback import store as stores
from vpo_jax.runtime import console

Questions = questions.Questions

# Config keys (`*` matches any key) that change how the work runs but not its results,
# so that they may differ between the runs of one stage.
EXECUTION_KEYS = (
  "bridge.*",
  "renderer.python",
  "renderer.batch",
  "renderer.options.*",
  "scorer.python",
  "scorer.options.trust_remote_code",
  "scorer.options.questions_at_once",
  "scorer.options.base_url",
  "scorer.options.key_env",
  "scorer.options.parallel",
  "scorer.options.timeout_s",
  "scorer.options.retries",
  # An answer that the limit cuts off is not stored, so a larger one changes none.
  "scorer.options.max_tokens",
)
# Rounds of rendering and scoring: a file found damaged by the scorer is rendered again.
_ROUNDS = 2
# After this many scored videos without a single yes, the scorer is broken.
_FIRST_VIDEOS = 16


@dataclasses.dataclass(frozen=True)
class Request:
  """One prompt to render and to score.

  Attributes:
    seed: of the video's noise.
    text: replaces `[[prompt]]` in a question.
  """

  prompt: str
  seed: int
  text: str


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of one `Request`: a video and its answers, or a failure."""

  video_id: str
  video: contract.RenderedVideo | None
  answers: contract.Answers | None
  failure: contract.Failure | None


def check(config: ml_collections.ConfigDict) -> None:
  """Checks that a renderer and a scorer are named; reads only small files.

  Raises:
    UserError: nothing is named, or a preset, a question or a weight file is wrong.
  """
  identity.settings(config.renderer)
  identity.load_questions(config.scorer)


class Bridge:
  """The config's renderer and scorer, with a store of finished work.

  Attributes:
    settings: the renderer's.
    model: the video model's directory or hub id.
    store: of finished work; in a bucket, its local folder.
    questions: the scorer's; empty for a scorer that gives named rewards.
    answers_folder: where the store holds the answers.
    rendered: videos rendered by this object.
    scored: videos scored by this object.
    restarts: workers that crashed and were restarted.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: epath.PathLike,
    store: epath.PathLike,
  ):
    """Reads the settings and the questions; starts no worker.

    Args:
      config: with `renderer`, `scorer` and `bridge`, as in configs/bridge.py.
      folder: for the run's queues and logs; if it is in a bucket, they stay in its
        scratch folder.
      store: for finished work, unless `config.bridge.store` names a folder.

    Raises:
      UserError: see `check`, or a bucket cannot be read.
    """
    self._config = config
    self._requests = epath.Path(folder) / "requests.jsonl"
    self._folder = pathlib.Path(buckets.scratch(folder))
    self._finished = stores.Store(config.bridge.store or store)
    self.store = self._finished.local
    self.settings, self.model = identity.settings(config.renderer)
    self.questions = identity.load_questions(config.scorer)
    self._jobs = jobs.Jobs(config, self.settings, self.model)
    self.answers_folder = str(self.store.root / "answers")
    self.restarts = 0
    self.rendered = 0
    self.scored = 0

  def render_and_score(self, requests: Sequence[Request]) -> list[Result]:
    """Renders and scores whatever the store lacks.

    Returns: one result per request, in order.

    Raises:
      UserError: the workers cannot work or keep crashing, or requests are left
        unfinished. Finished requests stay done.
    """
    job_files = self._jobs.write(self._folder, self.store.root)
    own = self._jobs.scorer_identity(job_files)
    hashes = self.store.root / "hashes"
    with console.console.status("hashing the files of the scorer"):
      scorer_id = identity.scorer(self._config.scorer, self.questions, own, hashes)
    renders = self._renders(requests)
    text_role = self._config.scorer.text_role
    scores = [
      contract.score_request(render.id, scorer_id, request.text, text_role)
      for render, request in zip(renders, requests, strict=True)
    ]
    self._finished.fetch([one.id for one in renders], [one.id for one in scores])
    failures = self._process(job_files, _unique(renders), _unique(scores))
    return [
      Result(
        render.id,
        contract.read_row(self.store.rendered(render.id), contract.RenderedVideo),
        self.store.find_answers(score.id),
        failures.get(render.id) or failures.get(score.id),
      )
      for render, score in zip(renders, scores, strict=True)
    ]

  def render(self, requests: Sequence[Request]) -> list[Result]:
    """Renders whatever the store lacks, and scores nothing.

    Returns: one result per request, in order, without answers.

    Raises:
      UserError: see `render_and_score`.
    """
    job_files = self._jobs.write(self._folder, self.store.root)
    renders = self._renders(requests)
    self._finished.fetch([one.id for one in renders], [])
    render = {"render": job_files["render"]}
    failures = self._render(
      _unique(renders), lambda task: self._jobs.plans(render)[task]
    )
    return [
      Result(
        one.id,
        contract.read_row(self.store.rendered(one.id), contract.RenderedVideo),
        None,
        failures.get(one.id),
      )
      for one in renders
    ]

  def encode(
    self, requests: Sequence[contract.EncodeRequest]
  ) -> dict[str, contract.Failure]:
    """Encodes for training whatever the store lacks; returns the failures by id.

    Raises:
      UserError: see `render_and_score`.
    """
    job_files = self._jobs.write(self._folder, self.store.root, ("encode",))

    def is_intact(request: contract.EncodeRequest) -> bool:
      return is_done(request.id)

    def is_done(request_id: str) -> bool:
      return stores.is_whole(self.store.encoded(request_id))

    def plan(task: str) -> workers.Plan:
      return self._jobs.plans(job_files)[task]

    unique = _unique(list(requests))
    self._run("encode", unique, is_intact, is_done, plan)
    return self._failures("encode", unique, is_done)

  def devices(self) -> workers.Plan:
    """The interpreter and the devices of the video model.

    Raises:
      UserError: the interpreter is missing or lacks packages.
    """
    job_files = self._jobs.write(self._folder, self.store.root, ("encode",))
    return self._jobs.plans(job_files)["encode"]

  def model_id(self) -> str:
    """The identity of the video model."""
    hashes = self.store.root / "hashes"
    with console.console.status("hashing the files of the video model"):
      return identity.video_model(self._config.renderer, self.model, hashes)

  def _renders(self, requests: Sequence[Request]) -> list[contract.RenderRequest]:
    """The renderer's requests; also written to the stage's folder."""
    model_id = self.model_id()
    renders = [
      contract.render_request(request.prompt, model_id, self.settings, request.seed)
      for request in requests
    ]
    contract.write_rows(self._folder / self._requests.name, renders)
    buckets.store(self._requests)
    return renders

  def _process(
    self,
    job_files: dict[str, pathlib.Path],
    renders: list[contract.RenderRequest],
    scores: list[contract.ScoreRequest],
  ) -> dict[str, contract.Failure]:
    """Renders, then scores; a video that the scorer finds damaged is rendered again."""
    plans: dict[str, workers.Plan] = {}

    def plan(task: str) -> workers.Plan:
      if not plans:  # only once there is work to do
        plans.update(self._jobs.plans(job_files))
      return plans[task]

    failures: dict[str, contract.Failure] = {}
    for _ in range(_ROUNDS):
      failures = self._render(renders, plan)
      rendered = [score for score in scores if score.video_id not in failures]
      failures |= self._score(rendered, plan)
      damaged = [failure for failure in failures.values() if failure.stage == "video"]
      if not damaged:
        return failures
      for failure in damaged:
        self._queue("score").clear_failure(failure.id)
    raise errors.UserError(
      f"bridge: videos in {self.store.root} were damaged again after they had been"
      " rendered a second time; check the disk"
    )

  def _render(
    self,
    requests: list[contract.RenderRequest],
    plan: Callable[[str], workers.Plan],
  ) -> dict[str, contract.Failure]:
    def is_intact(request: contract.RenderRequest) -> bool:
      if self.store.find_video(request.id):
        return True
      # Missing, truncated or changed: remove its row too, so that both are made again.
      self.store.rendered(request.id).unlink(missing_ok=True)
      return False

    def is_done(video_id: str) -> bool:
      return self.store.rendered(video_id).exists()

    self.rendered += self._run("render", requests, is_intact, is_done, plan)
    return self._failures("render", requests, is_done)

  def _score(
    self,
    requests: list[contract.ScoreRequest],
    plan: Callable[[str], workers.Plan],
  ) -> dict[str, contract.Failure]:
    def is_intact(request: contract.ScoreRequest) -> bool:
      return is_done(request.id)

    def is_done(answers_id: str) -> bool:
      return self.store.find_answers(answers_id) is not None

    first: list[list[bool]] = []

    def on_done(answers_id: str) -> None:
      answers = self.store.find_answers(answers_id)
      if answers and len(first) < _FIRST_VIDEOS:
        self._check_count(answers.yes)
        first.append(answers.yes)
        if len(first) == _FIRST_VIDEOS:
          rewards.check_some_yes(first, self.answers_folder)

    self.scored += self._run("score", requests, is_intact, is_done, plan, on_done)
    return self._failures("score", requests, is_done)

  def _check_count(self, yes: Sequence[bool]) -> None:
    if yes and len(yes) != len(self.questions.texts):
      scorer = self._config.scorer
      raise errors.UserError(
        f"config.scorer.questions={scorer.questions!r}: has"
        f" {len(self.questions.texts)} questions, but the scorer {scorer.name} gave"
        f" {len(yes)} answers; name the file whose questions it answers"
      )

  def _run(
    self,
    task: str,
    requests: Sequence[Any],
    is_intact: Callable[[Any], bool],
    is_done: Callable[[str], bool],
    plan: Callable[[str], workers.Plan],
    on_done: Callable[[str], None] | None = None,
  ) -> int:
    """Runs workers on a task's missing requests; returns how many succeeded."""
    queue = self._queue(task)
    # Hashing releases the interpreter lock.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      intact = list(pool.map(is_intact, requests))
    missing = [
      request
      for request, found in zip(requests, intact, strict=True)
      if not found and not queue.failure(request.id)
    ]
    if not missing:
      return 0

    def keep(request_id: str) -> None:
      self._finished.keep(task, request_id)
      if on_done:
        on_done(request_id)

    supervisor = workers.Supervisor(queue, plan(task), is_done, keep)
    # At least four shards per worker, so that all workers end about together.
    size = -(-len(missing) // (4 * len(plan(task).devices)))
    size = max(self._config.renderer.batch, min(self._config.bridge.shard, size))
    try:
      supervisor.run(task, missing, size, len(requests) - len(missing))
    finally:
      self.restarts += supervisor.restarts
      self._finished.wait()
    return supervisor.done

  def _failures(
    self, task: str, requests: Sequence[Any], is_done: Callable[[str], bool]
  ) -> dict[str, contract.Failure]:
    """The failures by request id; every other request must be done."""
    queue = self._queue(task)
    failures, missing = {}, 0
    for request in requests:
      if failure := queue.failure(request.id):
        failures[request.id] = failure
      elif not is_done(request.id):
        missing += 1
    if missing:
      raise errors.UserError(
        f"bridge: {missing} of {len(requests)} {task} requests are unfinished"
        f" ({len(failures)} failed); see {queue.root / 'logs'} and run again"
      )
    # A damaged video is rendered again, so it does not count here.
    final = [failure for failure in failures.values() if failure.stage != "video"]
    if len(final) == len(requests) and requests:
      raise errors.UserError(
        f"bridge: all {len(requests)} {task} requests failed, the first with:"
        f" {final[0].reason}; fix the cause, remove {queue.root / 'failures'} and run"
        " again"
      )
    return failures

  def _queue(self, task: str) -> shards.Queue:
    return shards.Queue(self._folder / task)


_Request = TypeVar(
  "_Request", contract.RenderRequest, contract.ScoreRequest, contract.EncodeRequest
)


def _unique(requests: list[_Request]) -> list[_Request]:
  return list({request.id: request for request in requests}.values())
