"""Renders with an OpenAI-style video server, such as vLLM-Omni's or SGLang's.

A video is a job: `POST /videos` creates it, `GET /videos/ID` reports its status, and
`GET /videos/ID/content` is the mp4 file. Several jobs run at once. The module needs the
standard library only; the key comes from an environment variable.

Calls are retried as `client` says. A job that the server no longer knows, because the
server was restarted, is created again. A failed job is a failure of its video: final if
the server gives a reason that no retry can fix, such as refused content; others are
tried again by the worker.

Sources: docs/serving/videos_api.md of vllm-project/vllm-omni (forms), and
multimodal_gen/runtime/entrypoints/openai of sgl-project/sglang (JSON; a form needs an
image there), both read in November 2026.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch_bridge import client, contract
from torch_bridge.renderers import base

# Settings that are fields of the request, under the same names.
_FIELDS = (
  "num_frames",
  "fps",
  "num_inference_steps",
  "guidance_scale",
  "negative_prompt",
)
_BODIES = ("json", "form")
_CREATIONS = 3  # of one job, if the server forgets it
_RETRIES, _LONGEST_WAIT_S = 16, 30.0  # about six minutes, for a server that restarts
# In the code of a failed job's error; another try would fail in the same way.
_FINAL = ("moderation", "policy", "safety", "invalid", "unsupported")


class HttpRenderer:
  """Keeps `options.parallel` jobs running; yields the videos in order."""

  streams = True

  def __init__(self, spec: dict[str, Any]):
    """Reads the settings; the server is first called with the first request.

    Raises:
      ModelError: the address, the model or the key is missing.
    """
    options = spec.get("options", {})
    self._client = client.Client(
      "renderer",
      spec,
      timeout_s=120.0,
      retries=_RETRIES,
      longest_wait_s=_LONGEST_WAIT_S,
    )
    self._model = spec["model"]
    self._body = options.get("body") or "json"
    if self._body not in _BODIES:
      raise base.ModelError(
        f"--config.renderer.options.body={self._body!r}: must be one of"
        f" {', '.join(_BODIES)}"
      )
    self._parallel = options.get("parallel") or 4
    self._poll_s = options.get("poll_s") or 2.0
    self._job_s = options.get("job_s") or 3600.0
    self._stop = threading.Event()
    self.made_by = {
      "renderer": "http",
      "server": self._client.address,
      "model": self._model,
    }

  def ping(self) -> None:
    """Calls the server without rendering anything.

    Raises:
      ModelError: the server cannot be reached, or it refuses the key.
    """
    self._client.ping()

  def render(
    self, requests: Sequence[contract.RenderRequest], heartbeat: Callable[[], None]
  ) -> Iterator[base.Clip | base.Failed]:
    pool = concurrent.futures.ThreadPoolExecutor(self._parallel)
    self._stop.clear()
    try:
      yield from pool.map(lambda request: self._render(request, heartbeat), requests)
    finally:
      self._stop.set()  # no job is waited for if the run ends
      pool.shutdown(cancel_futures=True)

  def _render(
    self, request: contract.RenderRequest, heartbeat: Callable[[], None]
  ) -> base.Clip | base.Failed:
    try:
      for _ in range(_CREATIONS):
        job = self._create(request, heartbeat)
        with contextlib.suppress(_Unknown):
          try:
            failed = self._wait(job, heartbeat)
            return failed or self._download(job, heartbeat)
          finally:
            self._delete(job)
      return base.Failed(
        f"{self._client.address} lost the job {_CREATIONS} times", final=False
      )
    except client.Refused as error:
      return base.Failed(str(error))
    except base.ModelError:
      self._stop.set()
      raise
    except RuntimeError as error:
      return base.Failed(str(error), final=False)

  def _create(
    self, request: contract.RenderRequest, heartbeat: Callable[[], None]
  ) -> dict[str, Any]:
    """Creates a job; returns the server's description of it."""
    data, content_type = _encoded(self._fields(request), self._body)

    def parse(reply: bytes) -> dict[str, Any]:
      job = json.loads(reply)
      _ = job["id"]
      return job

    return self._client.call("POST", "/videos", parse, heartbeat, data, content_type)

  def _fields(self, request: contract.RenderRequest) -> dict[str, Any]:
    """The request's fields: everything that changes the frames."""
    settings = request.settings
    fields = {n: settings[n] for n in _FIELDS if settings.get(n) not in (None, "")}
    if settings.get("width") and settings.get("height"):
      fields["size"] = f"{settings['width']}x{settings['height']}"
    return {
      "model": self._model,
      "prompt": base.text(request),
      "seed": request.seed,
      **fields,
      **settings.get("call", {}),
    }

  def _wait(
    self, job: dict[str, Any], heartbeat: Callable[[], None]
  ) -> base.Failed | None:
    """Waits until the job is done; returns its failure, if it failed."""
    until = time.monotonic() + self._job_s
    while True:
      status = str(job.get("status", "queued"))
      if status == "completed":
        return None
      if status not in ("queued", "in_progress", "processing", "running"):
        return _failure(job, status)
      if time.monotonic() > until:
        return base.Failed(f"no video after {self._job_s:.0f} s", final=False)
      if self._stop.wait(self._poll_s):
        return base.Failed("the run ended", final=False)
      heartbeat()
      job = self._call_job("GET", job, "", _parsed_status, heartbeat)

  def _download(self, job: dict[str, Any], heartbeat: Callable[[], None]) -> base.Clip:
    return base.Clip(self._call_job("GET", job, "/content", whole_mp4, heartbeat))

  def _delete(self, job: dict[str, Any]) -> None:
    """Frees the server's disk, or ends a job that nobody waits for."""
    with contextlib.suppress(Exception):
      self._client.send("DELETE", f"/videos/{job['id']}")

  def _call_job(
    self,
    method: str,
    job: dict[str, Any],
    part: str,
    parse: Callable[[bytes], Any],
    heartbeat: Callable[[], None],
  ) -> Any:
    """Calls the server about a job.

    Raises:
      _Unknown: the server does not know the job, or no longer has its file.
    """
    try:
      path = f"/videos/{job['id']}{part}"
      return self._client.call(method, path, parse, heartbeat, unknown=True)
    except client.Refused as error:
      if error.code in (404, 410):
        raise _Unknown(str(error)) from error
      raise


class _Unknown(Exception):
  """The server does not know a job."""


def _encoded(fields: dict[str, Any], body: str) -> tuple[bytes, str]:
  """The request's body and its content type."""
  if body == "json":
    return json.dumps(fields).encode(), "application/json"
  boundary = uuid.uuid4().hex
  parts = []
  for name, value in fields.items():
    text = value if isinstance(value, str) else json.dumps(value)
    parts.append(
      f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
    )
  content = "".join(parts) + f"--{boundary}--\r\n"
  return content.encode(), f"multipart/form-data; boundary={boundary}"


def _parsed_status(reply: bytes) -> dict[str, Any]:
  job = json.loads(reply)
  _ = job["id"], job["status"]
  return job


def _failure(job: dict[str, Any], status: str) -> base.Failed:
  error = job.get("error") or {}
  if not isinstance(error, dict):
    error = {"message": str(error)}
  code, message = error.get("code", ""), str(error.get("message", ""))
  line = " ".join(f"the job {status}: {code} {message}".split())[:300]
  refused = isinstance(code, int) and 400 <= code < 500 and code not in (408, 409, 429)
  final = refused or any(word in str(code).lower() for word in _FINAL)
  return base.Failed(line, final=final)


def whole_mp4(content: bytes) -> bytes:
  """The content, if it is a complete mp4 file.

  Raises:
    ValueError: a box extends beyond the end, or the index is missing.
  """
  place, kinds = 0, []
  while place < len(content):
    size = int.from_bytes(content[place : place + 4], "big")
    kinds.append(content[place + 4 : place + 8])
    if size == 1:
      size = int.from_bytes(content[place + 8 : place + 16], "big")
    elif size == 0:
      size = len(content) - place
    if size < 8 or place + size > len(content):
      raise ValueError(f"an incomplete mp4 file of {len(content)} bytes")
    place += size
  if b"moov" not in kinds:
    raise ValueError(f"not an mp4 file: {content[:40]!r}")
  return content


def check(spec: dict[str, Any]) -> None:
  """Checks the settings and calls the server, before anything is rendered.

  Raises:
    ModelError: a setting is missing, or the server cannot be used.
  """
  HttpRenderer(spec).ping()


make = HttpRenderer
