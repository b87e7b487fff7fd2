"""Videos and answers from the torch bridge, for any number of prompts.

The bridge is another program, perhaps of another Python; see torch_bridge/README.md.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ml_collections
from etils import epath

from torch_bridge import contract, questions, shards
from vpo_jax import errors, files
from vpo_jax.feedback import crew, executors, identity, rewards
from vpo_jax.runtime import console

Questions = questions.Questions

TINY = "tiny"  # the preset whose model is built on the spot
# Damaged files are found when they are scored, and rendered again this often.
_ROUNDS = 2
# Videos of which at least one answer is yes, if the scorer works at all.
_FIRST = 16


@dataclasses.dataclass(frozen=True)
class Ask:
  """One prompt to render and to score.

  Attributes:
    seed: of the video's noise.
    text: what fills `[[prompt]]` in a question.
  """

  prompt: str
  seed: int
  text: str


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of one `Ask`: a video and answers, or the reason why there are none."""

  video_id: str
  video: contract.RenderedVideo | None
  answers: contract.Answers | None
  failure: contract.Failure | None


@dataclasses.dataclass(frozen=True)
class _Plan:
  """Who works on a task, and where."""

  crew: crew.Plan
  executor: executors.Executor


class Bridge:
  """Renderer and scorer as a config names them, over one store of finished work."""

  def __init__(self, config: ml_collections.ConfigDict, folder: epath.PathLike):
    """Reads what is needed to name videos and answers; starts nothing.

    Args:
      config: with `renderer`, `scorer` and `bridge`, as configs/bridge.py.
      folder: of the run; its queues, logs and (by default) the store lie there.

    Raises:
      UserError: an unknown preset, a question or weight file that is wrong.
    """
    self._config = config
    self._folder = pathlib.Path(folder)
    self._store = contract.Store(
      pathlib.Path(config.bridge.store or self._folder / "store")
    )
    self.settings, model = identity.settings(config.renderer)
    self._is_tiny = model == TINY
    self._model = str(self._folder / "tiny-cogvideox") if self._is_tiny else model
    self.questions = identity.asked(config.scorer)
    self.answers = str(self._store.root / "answers")
    self.restarts = 0
    self.rendered = 0
    self.scored = 0

  def run(self, asks: Sequence[Ask]) -> list[Result]:
    """Renders and scores; does only what is missing.

    Returns: one result an ask, in order.

    Raises:
      UserError: workers cannot work or die again and again, or some requests came to
        no end; what is done stays done.
    """
    self._build_tiny()
    renderer, scorer = self._config.renderer, self._config.scorer
    mark = identity.model(self._model, renderer.revision)
    scorer_mark = identity.scorer(scorer, self.questions)
    renders = [
      contract.render_request(ask.prompt, mark, self.settings, ask.seed) for ask in asks
    ]
    scores = [
      contract.score_request(request.id, scorer_mark, ask.text, scorer.text_role)
      for request, ask in zip(renders, asks, strict=True)
    ]
    contract.write_rows(self._folder / "requests.jsonl", renders)
    failures = self._make(_unique(renders), _unique(scores))
    return [
      Result(
        render.id,
        contract.read_row(self._store.rendered(render.id), contract.RenderedVideo),
        self._store.find_answers(score.id),
        failures.get(render.id) or failures.get(score.id),
      )
      for render, score in zip(renders, scores, strict=True)
    ]

  def _make(
    self,
    renders: list[contract.RenderRequest],
    scores: list[contract.ScoreRequest],
  ) -> dict[str, contract.Failure]:
    """Renders, then scores; a file found damaged by then is rendered once more."""
    plans: dict[str, _Plan] = {}
    failures: dict[str, contract.Failure] = {}
    for _ in range(_ROUNDS):
      failures = self._render(renders, plans)
      whole = [score for score in scores if score.video_id not in failures]
      failures |= self._score(whole, plans)
      damaged = [failure for failure in failures.values() if failure.stage == "video"]
      if not damaged:
        return failures
      for failure in damaged:
        self._queue("score").forgive(failure.id)
    raise errors.UserError(
      f"bridge: videos under {self._store.root} were damaged again after they had been"
      " rendered anew; is the disk sound?"
    )

  def _render(
    self, requests: list[contract.RenderRequest], plans: dict[str, _Plan]
  ) -> dict[str, contract.Failure]:
    def is_whole(request: contract.RenderRequest) -> bool:
      if self._store.find_video(request.id):
        return True
      # A row whose file was cut short or changed; both are made again.
      self._store.rendered(request.id).unlink(missing_ok=True)
      return False

    def is_done(video_id: str) -> bool:
      return self._store.rendered(video_id).exists()

    done = self._work("render", requests, is_whole, is_done, plans)
    self.rendered += done
    return self._account("render", requests, is_done)

  def _score(
    self, requests: list[contract.ScoreRequest], plans: dict[str, _Plan]
  ) -> dict[str, contract.Failure]:
    def is_whole(request: contract.ScoreRequest) -> bool:
      return self._store.find_answers(request.id) is not None

    def is_done(answers_id: str) -> bool:
      return self._store.find_answers(answers_id) is not None

    first: list[list[bool]] = []

    def look(answers_id: str) -> None:
      answers = self._store.find_answers(answers_id)
      if answers and len(first) < _FIRST:
        first.append(answers.yes)
        if len(first) == _FIRST:
          rewards.check_some_yes(first, self.answers)

    done = self._work("score", requests, is_whole, is_done, plans, look)
    self.scored += done
    return self._account("score", requests, is_done)

  def _work(
    self,
    task: str,
    requests: Sequence[Any],
    is_whole: Callable[[Any], bool],
    is_done: Callable[[str], bool],
    plans: dict[str, _Plan],
    look: Callable[[str], None] | None = None,
  ) -> int:
    """Has a task's missing requests worked off; returns how many succeeded."""
    queue = self._queue(task)
    # Hashing releases the interpreter lock.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      whole = list(pool.map(is_whole, requests))
    missing = [
      request
      for request, there in zip(requests, whole, strict=True)
      if not there and not queue.failure(request.id)
    ]
    if not missing:
      return 0
    if not plans:
      plans |= self._plan()
    plan = plans[task]
    supervisor = crew.Supervisor(queue, plan.crew, is_done, plan.executor, look)
    # Small enough that all workers end at about the same time.
    size = -(-len(missing) // (4 * len(plan.crew.devices)))
    size = max(self._config.renderer.batch, min(self._config.bridge.shard, size))
    try:
      supervisor.run(task, missing, size, len(requests) - len(missing))
    finally:
      self.restarts += supervisor.restarts
    return supervisor.done

  def _account(
    self, task: str, requests: Sequence[Any], is_done: Callable[[str], bool]
  ) -> dict[str, contract.Failure]:
    """The failures; done, failed and missing must add up to asked, with 0 missing."""
    queue = self._queue(task)
    failures, missing = {}, 0
    for request in requests:
      if failure := queue.failure(request.id):
        failures[request.id] = failure
      elif not is_done(request.id):
        missing += 1
    if missing:
      raise errors.UserError(
        f"bridge: {missing} of {len(requests)} {task} requests came to no end (asked"
        f" {len(requests)}, done {len(requests) - missing - len(failures)}, failed"
        f" {len(failures)}); see {queue.root / 'logs'} and run again"
      )
    # A damaged video is rendered again, so it is no reason to stop.
    final = [failure for failure in failures.values() if failure.stage != "video"]
    if len(final) == len(requests) and requests:
      reason = final[0].reason
      raise errors.UserError(
        f"bridge: all {len(requests)} {task} requests failed, the first with: {reason};"
        f" mend that, remove {queue.root / 'failures'} and run again"
      )
    return failures

  def _queue(self, task: str) -> shards.Queue:
    return shards.Queue(self._folder / task)

  def _plan(self) -> dict[str, _Plan]:
    """Writes the job files and checks both interpreters before anything starts."""
    config = self._config
    jobs = {
      "render": {
        "renderer": {
          "name": self.settings["renderer"],
          "model": self._model,
          "settings": self.settings,
          "options": config.renderer.options.to_dict()
          | {"revision": config.renderer.revision},
        },
        "batch": config.renderer.batch,
      },
      "score": {
        "scorer": {
          "name": config.scorer.name,
          "model": config.scorer.model,
          "revision": config.scorer.revision,
          "questions": config.scorer.questions,
          "weights": config.scorer.weights,
          "options": config.scorer.options.to_dict(),
        },
      },
    }
    common = {"version": contract.VERSION, "store": str(self._store.root.resolve())}
    pythons = {
      "render": config.renderer.python or sys.executable,
      "score": config.scorer.python or sys.executable,
    }
    checks = {}
    for task, job in jobs.items():
      path = self._folder / task / "job.json"
      files.write_json(path, common | {"task": task} | job)
      checks[f"{pythons[task]} {task}"] = path
    with console.console.status("looking at the renderer's and scorer's packages"):
      found = crew.check(checks)
    return {
      task: self._place(python, found[f"{python} {task}"]["devices"])
      for task, python in pythons.items()
    }

  def _place(self, python: str, accelerators: int) -> "_Plan":
    config = self._config.bridge
    executor = executors.make(config)
    if isinstance(executor, executors.Ray):
      devices = ("",) * (config.workers or executor.devices())
      on_gpu = executor.gpus > 0
    else:
      devices = _devices(config, accelerators)
      on_gpu = bool(devices[0])
    plan = crew.Plan(python, devices, on_gpu, config.hang_s, config.restarts)
    return _Plan(plan, executor)

  def _build_tiny(self) -> None:
    if not self._is_tiny or pathlib.Path(self._model).exists():
      return
    aside = f"{self._model}.aside"
    python = self._config.renderer.python or sys.executable
    command = crew.program(python, "renderers.tiny", f"--out={aside}")
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
      line = (built.stderr.strip().splitlines() or ["it said nothing"])[-1]
      raise errors.UserError(f"bridge: cannot build the tiny CogVideoX: {line}")
    pathlib.Path(aside).rename(self._model)


_Request = TypeVar("_Request", contract.RenderRequest, contract.ScoreRequest)


def _unique(requests: list[_Request]) -> list[_Request]:
  return list({request.id: request for request in requests}.values())


def _devices(config: ml_collections.ConfigDict, found: int) -> tuple[str, ...]:
  """One worker a device; on a CPU one a core, up to four (a gigabyte each).

  Args:
    found: how many devices the worker's interpreter sees. Where CUDA_VISIBLE_DEVICES is
      set, they are the first of its list, and known by the names in it.
  """
  named = config.devices or (
    os.environ.get("CUDA_VISIBLE_DEVICES", "") if found else ""
  )
  devices = tuple(part.strip() for part in named.split(",") if part.strip())
  if not config.devices:
    devices = devices[:found] or tuple(str(i) for i in range(found))
  if not devices:
    return ("",) * (config.workers or min(4, os.cpu_count() or 1))
  return devices[: config.workers] if config.workers else devices
