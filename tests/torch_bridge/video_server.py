"""A video server with jobs, which fails as the first word of the prompt says."""

import email
import http.server
import json
import tempfile
import threading
import time

import numpy as np

from torch_bridge import video

ENCODING = {"codec": "libx264", "crf": 17}


class Server:
  """The server in a thread; `stop` and `start` restart it, with or without its jobs.

  Attributes:
    created: the fields of each accepted job, in order.
    calls: method and path of each call.
    most: the largest number of unfinished jobs.
  """

  def __init__(self, key=""):
    self.key, self.port = key, 0
    self.jobs, self.seen, self.created, self.calls = {}, {}, [], []
    self.most, self.polls = 0, 2  # until a job is completed
    self.lock = threading.Lock()
    self.start()

  def start(self):
    handler = type("Handler", (_Handler,), {"state": self})
    address = ("127.0.0.1", self.port)
    self._server = http.server.ThreadingHTTPServer(address, handler)
    self.port = self._server.server_port
    self._thread = threading.Thread(
      target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    self._thread.start()

  def stop(self, forget=False):
    self._server.shutdown()
    self._thread.join()
    self._server.server_close()
    if forget:
      self.jobs.clear()

  def restart_soon(self):
    """Ends the server from one of its own calls; it comes back after a while."""

    def restart():
      self.stop(forget=True)
      time.sleep(0.3)
      self.start()

    threading.Thread(target=restart).start()

  def first(self, prompt, what):
    """Whether this is the first time that `what` happens to the prompt."""
    with self.lock:
      self.seen[prompt, what] = self.seen.get((prompt, what), 0) + 1
      return self.seen[prompt, what] == 1


class _Handler(http.server.BaseHTTPRequestHandler):
  state: Server

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    if not self._begin():
      return
    fields = _fields(self.headers["Content-Type"], body)
    prompt = fields["prompt"]
    word = prompt.split()[0]
    if word == "busy" and self.state.first(prompt, "busy"):
      self._reply(429, {"error": "busy"}, [("Retry-After", "0.2")])
    elif word == "crash" and self.state.first(prompt, "crash"):
      self._reply(500, {"error": "crashed"})
    elif word == "refused":
      self._reply(400, {"error": f"no such prompt, {self.state.key}"})
    else:
      with self.state.lock:
        self.state.created.append(fields)
        job = {"id": f"video_{len(self.state.created)}", "status": "queued"}
        self.state.jobs[job["id"]] = job | {"fields": fields, "polls": 0}
        open_jobs = [j for j in self.state.jobs.values() if j["status"] == "queued"]
        self.state.most = max(self.state.most, len(open_jobs))
      self._reply(200, job)

  def do_GET(self):
    if not self._begin():
      return
    if self.path == "/v1/models":
      self._reply(200, {"data": []})
      return
    _, _, _, job_id, *content = self.path.split("/")
    with self.state.lock:
      job = self.state.jobs.get(job_id)
    if job is None:
      self._reply(404, {"error": "no such video"})
    elif content:
      self._send_video(job)
    else:
      self._send_status(job)

  def do_DELETE(self):
    if self._begin():
      with self.state.lock:
        self.state.jobs.pop(self.path.split("/")[-1], None)
      self._reply(200, {"deleted": True})

  def _send_status(self, job):
    prompt = job["fields"]["prompt"]
    word = prompt.split()[0]
    job["polls"] += 1
    if word == "restart" and self.state.first(prompt, "restart"):
      self.state.restart_soon()
    if word == "unsafe":
      job |= {"status": "failed", "error": {"code": "moderation_blocked"}}
    elif word == "broken" or (word == "flaky" and self.state.first(prompt, "flaky")):
      job |= {"status": "failed", "error": {"message": "CUDA error"}}
    elif job["polls"] >= (20 if word == "slow" else self.state.polls):
      job["status"] = "completed"
    self._reply(200, {name: job.get(name) for name in ("id", "status", "error")})

  def _send_video(self, job):
    fields = job["fields"]
    width, height = map(int, fields["size"].split("x"))
    if fields["prompt"].startswith("small"):
      width //= 2
    random = np.random.default_rng([int(fields["seed"]), *fields["prompt"].encode()])
    shape = (int(fields["num_frames"]), height, width, 3)
    frames = random.integers(0, 200, shape, np.uint8)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
      video.write(file.name, frames, int(fields["fps"]), ENCODING)
      content = file.read()
    part = 1.0
    if fields["prompt"].startswith("cut") and self.state.first(fields["prompt"], "cut"):
      part = 0.6
    if fields["prompt"].startswith("cut-quietly") and part < 1:
      content, part = content[: int(part * len(content))], 1.0
    self._reply(200, content, part=part)

  def _begin(self):
    with self.state.lock:
      self.state.calls.append(f"{self.command} {self.path}")
    key = self.state.key
    if key and self.headers.get("Authorization") != f"Bearer {key}":
      self._reply(401, {"error": f"wrong key, not {key}"})
      return False
    return True

  def _reply(self, status, reply, headers=(), part=1.0):
    content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    self.send_response(status)
    for name, value in headers:
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content[: int(part * len(content))])

  def log_message(self, *args):
    pass


def _fields(content_type, body):
  if content_type == "application/json":
    return json.loads(body)
  message = email.message_from_bytes(
    b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
  )
  return {
    part.get_param("name", header="content-disposition"): part.get_payload(
      decode=True
    ).decode()
    for part in message.get_payload()
  }
