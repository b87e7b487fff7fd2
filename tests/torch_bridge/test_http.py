import base64
import http.server
import io
import json
import threading

import av
import numpy as np
import pytest

from torch_bridge.renderers import base
from torch_bridge.scorers import http as http_scorer

VIDEO = np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    self.server.asked.append((body, self.headers.get("Authorization")))
    status, reply = self.server.answer(body)
    content = json.dumps(reply).encode()
    self.send_response(status)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *args):
    pass


@pytest.fixture
def server(monkeypatch, tmp_path):
  monkeypatch.setattr(http_scorer, "_WAITS", (0.01, 0.01))
  monkeypatch.setenv("TEST_KEY", "secret-key")
  made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
  made.asked = []
  thread = threading.Thread(target=made.serve_forever)
  thread.start()
  (tmp_path / "qa.txt").write_text("Is it [[prompt]]?\nIs it sharp?\n")
  (tmp_path / "w.txt").write_text("1 1")
  made.spec = {
    "model": "judge",
    "questions": str(tmp_path / "qa.txt"),
    "weights": str(tmp_path / "w.txt"),
    "options": {
      "base_url": f"http://127.0.0.1:{made.server_port}/v1",
      "key_env": "TEST_KEY",
      "frames": 3,
    },
  }
  yield made
  made.shutdown()
  thread.join()
  made.server_close()


def _says(word):
  return {"choices": [{"message": {"content": word}}]}


def _question(body):
  return body["messages"][1]["content"][-1]["text"]


def test_every_question_is_asked_with_the_frames_and_the_key(server):
  server.answer = lambda body: (
    200,
    _says("Yes." if "cat" in _question(body) else "no"),
  )
  verdict = http_scorer.make(server.spec).score(VIDEO, 8, "a cat", lambda: None)
  assert verdict.answers() == [True, False]
  assert {_question(body) for body, _ in server.asked} == {
    "Is it a cat?",
    "Is it sharp?",
  }
  body, key = server.asked[0]
  assert key == "Bearer secret-key"
  images = body["messages"][1]["content"][:-1]
  assert len(images) == 3
  data = base64.b64decode(images[0]["image_url"]["url"].split(",")[1])
  with av.open(io.BytesIO(data)) as container:
    frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
  assert frame.shape == VIDEO[0].shape


def test_probabilities_come_from_the_first_token_where_there_are_any():
  top = [
    {"token": " Yes", "logprob": np.log(0.6)},
    {"token": "No", "logprob": np.log(0.2)},
  ]
  choice = _says("Yes")["choices"][0] | {
    "logprobs": {"content": [{"top_logprobs": top}]}
  }
  assert http_scorer.p_yes(choice) == pytest.approx(0.75)


def test_a_reply_that_is_neither_is_never_guessed(server):
  server.answer = lambda body: (200, _says("Yes and no"))
  with pytest.raises(ValueError, match="neither yes nor no: 'Yes and no'"):
    http_scorer.make(server.spec).score(VIDEO, 8, "a cat", lambda: None)


def test_a_busy_server_is_asked_again(server):
  replies = [(429, {}), (503, {}), (200, _says("yes")), (200, _says("yes"))]
  server.answer = lambda body: replies.pop(0)
  server.spec["options"]["parallel"] = 1
  verdict = http_scorer.make(server.spec).score(VIDEO, 8, "a cat", lambda: None)
  assert verdict.answers() == [True, True]
  assert len(server.asked) == 4


def test_a_refused_key_is_said_without_the_key(server):
  server.answer = lambda body: (401, {})
  with pytest.raises(base.ModelError, match="refuses the key") as caught:
    http_scorer.make(server.spec).score(VIDEO, 8, "a cat", lambda: None)
  assert "secret-key" not in str(caught.value)
