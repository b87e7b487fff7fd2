"""OpenAI's Files and Batch APIs on loopback, with answers by a script."""

import contextlib
import email
import email.policy
import http.server
import json
import threading
import urllib.parse

import faulty


class Server:
  """Stores files and batches; a batch ends after `polls` requests for its status.

  `script(body)` returns a reply's text, a completion's body, (status, error) for a line
  of the error file, bytes for a whole line of the output, or None for a request that is
  missing from the output.

  Attributes:
    final_status: the status of a batch when it ends.
    ascii_only: whether the output escapes other characters.
    sent: custom ids of all requests received.
  """

  def __init__(self, script):
    self.script = script
    self.polls = 1
    self.ascii_only = True
    self.final_status = "completed"
    self.files: dict[str, bytes] = {}
    self.batches: dict[str, dict] = {}
    self.sent: list[str] = []

  def upload(self, content: bytes) -> dict:
    name = f"file-{len(self.files)}"
    self.files[name] = content
    return self._file(name)

  def _file(self, name):
    return {
      "id": name,
      "object": "file",
      "bytes": len(self.files[name]),
      "created_at": 1,
      "filename": "requests.jsonl",
      "purpose": "batch",
      "status": "processed",
    }

  def create(self, request: dict) -> dict:
    name = f"batch_{len(self.batches)}"
    self.batches[name] = {
      "id": name,
      "object": "batch",
      "endpoint": request["endpoint"],
      "completion_window": request["completion_window"],
      "created_at": 1,
      "input_file_id": request["input_file_id"],
      "metadata": request.get("metadata"),
      "status": "in_progress",
      "polled": 0,
    }
    lines = self.files[request["input_file_id"]].splitlines()
    self.sent += [json.loads(line)["custom_id"] for line in lines]
    return self.batches[name]

  def retrieve(self, name: str) -> dict:
    batch = self.batches[name]
    batch["polled"] += 1
    if batch["polled"] > self.polls and batch["status"] == "in_progress":
      self._run(batch)
    return batch

  def _run(self, batch: dict) -> None:
    batch["status"] = self.final_status
    if self.final_status == "failed":
      batch["errors"] = {"object": "list", "data": [{"message": "no such model"}]}
      return
    good, bad = [], []
    for line in self.files[batch["input_file_id"]].splitlines():
      request = json.loads(line)
      assert request["url"] == "/v1/chat/completions"
      answer = self.script(request["body"])
      if answer is None:
        continue
      if isinstance(answer, bytes):
        good.append(answer)
        continue
      status, body = 200, answer
      if isinstance(answer, str):
        body = faulty.completion(answer)
      elif isinstance(answer, tuple):
        status, body = answer[0], {"error": answer[1]}
      row = {
        "id": "1",
        "custom_id": request["custom_id"],
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": None,
      }
      line = json.dumps(row, ensure_ascii=self.ascii_only).encode()
      (good if status == 200 else bad).append(line)
    # The order of the output is not that of the input.
    for name, rows in (("output_file_id", good[::-1]), ("error_file_id", bad)):
      batch[name] = self.upload(b"\n".join(rows))["id"] if rows else None


def _handler(server: Server):
  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
      parts = urllib.parse.urlparse(self.path).path.split("/")[2:]
      if parts == ["models"]:
        self.reply({"object": "list", "data": []})
      elif parts == ["batches"]:
        rows = list(server.batches.values())
        self.reply({"object": "list", "data": rows, "has_more": False})
      elif parts[0] == "batches":
        self.reply(server.retrieve(parts[1]))
      else:
        self.reply(server.files[parts[1]])

    def do_POST(self):
      body = self.rfile.read(int(self.headers["Content-Length"]))
      if self.path.endswith("/files"):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        parts = {
          p.get_param("name", header="content-disposition"): p for p in form.walk()
        }
        self.reply(server.upload(parts["file"].get_payload(decode=True)))
      elif self.path.endswith("/batches"):
        self.reply(server.create(json.loads(body)))

    def reply(self, value):
      body = value if isinstance(value, bytes) else json.dumps(value).encode()
      kind = "application/octet-stream" if value is body else "application/json"
      self.send_response(200)
      self.send_header("Content-Type", kind)
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *_):
      pass

  return Handler


@contextlib.contextmanager
def running(server: Server):
  """Runs the server and yields its base URL."""
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as http_:
    http_.daemon_threads = True
    threading.Thread(target=http_.serve_forever, args=(0.05,), daemon=True).start()
    try:
      yield f"http://127.0.0.1:{http_.server_port}/v1"
    finally:
      http_.shutdown()
