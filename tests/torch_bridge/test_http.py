import base64
import email.utils
import http.server
import io
import json
import threading
import time

import av
import numpy as np
import pytest

from torch_bridge import chat_reply, client, contract, loop, scoring, shards, video
from torch_bridge.renderers import base
from torch_bridge.scorers import http as http_scorer

VIDEO = np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)


CUT, DROP = "cut", "drop"  # half a reply; no reply


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self._reply(self.server.models, {"data": []})

  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    self.server.requests.append((body, self.headers.get("Authorization")))
    self._reply(*self.server.answer(body))

  def _reply(self, status, reply, headers=()):
    if status == DROP:
      return
    content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    self.send_response(200 if status == CUT else status)
    for name, value in headers:
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content[: len(content) // 2] if status == CUT else content)

  def log_message(self, *args):
    pass


@pytest.fixture
def server(monkeypatch, tmp_path):
  monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.01)
  monkeypatch.setenv("TEST_KEY", "secret-key")
  made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
  made.requests, made.models = [], 200
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
      "parallel": 1,
      "retries": 2,
    },
  }
  yield made
  made.shutdown()
  thread.join()
  made.server_close()


def _score(server):
  return http_scorer.make(server.spec).score(VIDEO, 8, "a cat", lambda: None)


def _says(word):
  return {"choices": [{"message": {"content": word}}]}


def _http_date(seconds):
  return email.utils.formatdate(time.time() + seconds, usegmt=True)


def _question(body):
  return body["messages"][1]["content"][-1]["text"]


def test_every_question_is_sent_with_the_frames_and_the_key(server):
  server.answer = lambda body: (
    200,
    _says("Yes." if "cat" in _question(body) else "no"),
  )
  verdict = _score(server)
  assert verdict.answers() == [True, False]
  assert {_question(body) for body, _ in server.requests} == {
    "Is it a cat?",
    "Is it sharp?",
  }
  body, key = server.requests[0]
  assert key == "Bearer secret-key"
  images = body["messages"][1]["content"][:-1]
  assert len(images) == 3
  data = base64.b64decode(images[0]["image_url"]["url"].split(",")[1])
  with av.open(io.BytesIO(data)) as container:
    frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
  assert frame.shape == VIDEO[0].shape


def _probability(choice):
  return http_scorer.probability(chat_reply.read({"choices": [choice]}))


def test_probabilities_come_from_the_first_tokens_log_probabilities():
  top = [
    {"token": " Yes", "logprob": np.log(0.6)},
    {"token": "No", "logprob": np.log(0.2)},
  ]
  choice = _says("Yes")["choices"][0] | {
    "logprobs": {"content": [{"top_logprobs": top}]}
  }
  assert _probability(choice) == pytest.approx(0.75)


def test_a_reply_that_is_neither_yes_nor_no_is_an_error(server):
  server.answer = lambda body: (200, _says("Yes and no"))
  with pytest.raises(ValueError, match="neither yes nor no: 'Yes and no'"):
    _score(server)


@pytest.mark.parametrize(
  "fault",
  [
    (429, {}),
    (429, {}, [("Retry-After", "0.02")]),
    (408, {}),
    (503, {}),
    (CUT, _says("yes")),
    (DROP, None),
    (200, b"<html>"),
    (200, {"choices": []}),
    (200, {"error": "busy"}),
    (200, {"error": {"code": 502, "message": "down"}}),
    (200, {"choices": [{"finish_reason": "error", "message": {"content": "ye"}}]}),
    (503, b"<html>"),
    (429, [{"error": {"details": [{"retryDelay": "0.01s"}]}}]),
  ],
  ids=str,
)
def test_a_temporary_failure_is_retried(server, fault):
  replies = [fault, (200, _says("yes")), (200, _says("yes"))]
  server.answer = lambda body: replies.pop(0)
  assert _score(server).answers() == [True, True]
  assert len(server.requests) == 3


@pytest.mark.parametrize("wait", [lambda: "1", lambda: "1.1", lambda: _http_date(2.5)])
def test_the_client_waits_as_retry_after_says(server, wait):
  replies = [(429, {}, [("Retry-After", wait())]), *[(200, _says("no"))] * 2]
  server.answer = lambda body: replies.pop(0)
  began = time.monotonic()
  _score(server)
  assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
  ("answer", "says"),
  [
    ((401, {"error": "secret-key"}), r"refuses the key \(HTTP 401\).*key_env"),
    ((403, {}), r"refuses the key \(HTTP 403\)"),
    ((404, {"error": "no secret-key"}), r"does not know the model 'judge'.*\(key\)"),
    ((400, {"error": {"code": "model_not_found"}}), "model_not_found"),
    ((429, {"error": {"code": "insufficient_quota"}}), "insufficient_quota"),
    ((429, {}, [("Retry-After", "3600")]), "asks to wait 3600 s"),
    (
      (503, {}, [("Retry-After", "Tue, 01 Jan 2075 10:00:00 GMT")]),
      r"asks to wait 1\d{9} s",
    ),
    ((402, {"error": {"message": "Insufficient Balance"}}), "402: Insufficient Bal"),
    ((200, {"error": {"code": 402, "message": "Top up"}}), "HTTP 402: Top up"),
    (
      (400, [{"error": {"message": "API key not valid"}}]),
      "API key not valid.*key_env",
    ),
    ((405, {"detail": "not allowed secret-key"}), r"\(405: not allowed \(key\)\)"),
  ],
  ids=str,
)
def test_a_permanent_failure_ends_the_run_after_one_call(server, answer, says):
  server.answer = lambda body: answer
  with pytest.raises(base.ModelError, match=says) as caught:
    _score(server)
  assert len(server.requests) == 1
  assert "secret-key" not in str(caught.value)
  assert "\n" not in str(caught.value)


def test_a_refused_request_fails_for_its_video_only(server):
  server.answer = lambda body: (400, {"error": "image too large"})
  with pytest.raises(RuntimeError, match=r"HTTP 400.*image too large") as caught:
    _score(server)
  assert not isinstance(caught.value, base.ModelError)


@pytest.mark.parametrize(
  "answer",
  [
    (403, {"error": {"message": "no", "metadata": {"flagged_input": "x"}}}),
    (500, {"error": {"message": "no", "code": "content_filter"}}),
    (200, {"choices": [{"finish_reason": "SAFETY", "message": {"content": None}}]}),
    (200, {"choices": [{"message": {"content": "", "refusal": "I will not."}}]}),
    (200, {"choices": [], "promptFeedback": {"blockReason": "OTHER"}}),
  ],
  ids=str,
)
def test_a_refusal_fails_its_video_and_is_not_retried(server, answer):
  server.answer = lambda body: answer
  with pytest.raises(client.Refused):
    _score(server)
  asked = [_question(body) for body, _ in server.requests]
  assert len(asked) == len(set(asked))


def test_a_worker_never_sends_a_refused_request_again(server, tmp_path):
  store = contract.Store(tmp_path / "store")
  render = contract.render_request("a cat", "m", {}, 0)
  path = store.video(render.id)
  path.parent.mkdir(parents=True)
  video.write(path, VIDEO, 8, {"codec": "libx264", "crf": 17})
  contract.publish_row(
    store.rendered(render.id),
    contract.RenderedVideo(
      *(render.id, str(path.relative_to(store.root)), contract.sha256(path)),
      *(9, 8, 48, 32, 1.1, 0, {}, {}, 0.1),
    ),
  )
  queue = shards.Queue(tmp_path / "queue")
  request = contract.score_request(render.id, "judge", "a cat", "query")
  queue.refill([request], 1)
  server.answer = lambda body: (400, {"error": {"code": "content_filter"}})
  task = scoring.Scoring(store, http_scorer.make(server.spec))
  work = loop.Loop(queue, task, shards.Heartbeat(queue, "w", 0), batch=1)
  shard = queue.take("w")
  assert work.run(shard)
  asked = [_question(body) for body, _ in server.requests]
  assert len(asked) == len(set(asked))
  failure = queue.failure(request.id)
  assert failure.stage == "score"
  assert failure.tries == 1


def _reasons(answer, **message):
  return {"choices": [{"message": {"content": answer} | message}]}


@pytest.mark.parametrize(
  "form",
  [
    lambda word: _reasons(f"<think>\nYes? No? Hm.\n</think>\n\n{word}."),
    lambda word: _reasons(f"No, wait.</think>{word}"),
    lambda word: _reasons(word, reasoning_content="Yes? No?"),
    lambda word: _reasons([{"type": "thinking"}, {"type": "text", "text": word}]),
  ],
)
@pytest.mark.parametrize("first", ["<think>", "Yes", "No"])
def test_a_reasoning_models_answer_is_the_text_after_its_reasoning(server, form, first):
  """The log-probabilities of the first token are those of the reasoning."""
  top = [{"token": first, "logprob": 0.0}]
  logprobs = {"content": [{"token": first, "top_logprobs": top}]}

  def answer(body):
    reply = form("Yes" if "cat" in _question(body) else "No")
    reply["choices"][0]["logprobs"] = logprobs
    return 200, reply

  server.answer = answer
  assert _score(server).p_yes == [1.0, 0.0]


def test_log_probabilities_count_only_if_the_first_token_is_an_answer():
  top = [{"token": "The", "logprob": -0.5}, {"token": "no", "logprob": -0.6}]
  choice = _says("yes")["choices"][0]
  choice["logprobs"] = {"content": [{"token": "The", "top_logprobs": top}]}
  assert _probability(choice) == 1
  choice["logprobs"]["content"][0]["token"] = "no"
  assert _probability(choice) == 0


@pytest.mark.parametrize(
  "message",
  [
    {"content": None, "reasoning_content": "I should"},
    {"content": "<think>\nYes"},
    {"content": ""},
    {"content": "Okay, the user wants"},
  ],
  ids=str,
)
def test_a_reply_cut_before_its_answer_says_what_to_set(server, message):
  cut = {"choices": [{"finish_reason": "length", "message": message}]}
  server.answer = lambda body: (200, cut)
  says = r"max_tokens=5 before.*--config\.scorer\.options\.max_tokens"
  with pytest.raises(base.ModelError, match=says):
    _score(server)
  assert len(server.requests) == 1
  # A model that answers other questions is not too short of tokens for all.
  server.spec["options"]["max_tokens"] = 900
  scorer = http_scorer.make(server.spec)
  replies = [_says("yes"), _says("no"), cut]
  server.answer = lambda body: (200, replies.pop(0))
  scorer.score(VIDEO, 8, "a cat", lambda: None)
  with pytest.raises(ValueError, match="max_tokens=900 before"):
    scorer.score(VIDEO, 8, "a cat", lambda: None)
  assert server.requests[-1][0]["max_tokens"] == 900


def test_a_server_that_is_down_ends_the_run(server, monkeypatch):
  monkeypatch.setattr(client, "_OUTAGE", 3)
  server.answer = lambda body: (503, {})
  scorer = http_scorer.make(server.spec)
  for _ in range(2):
    with pytest.raises(RuntimeError, match="no answer after 3 tries: HTTP 503"):
      scorer.score(VIDEO, 8, "a cat", lambda: None)
  with pytest.raises(base.ModelError, match="3 calls in a row failed"):
    scorer.score(VIDEO, 8, "a cat", lambda: None)


def test_key_address_and_model_are_checked_before_anything_starts(server, monkeypatch):
  http_scorer.check(server.spec)
  server.models = 404  # this server does not list its models
  http_scorer.check(server.spec)
  server.models = 401
  with pytest.raises(base.ModelError, match="refuses the key"):
    http_scorer.check(server.spec)
  monkeypatch.delenv("TEST_KEY")
  with pytest.raises(base.ModelError, match="TEST_KEY is not set"):
    http_scorer.check(server.spec)
  unreachable = {"base_url": "http://127.0.0.1:1/v1"}
  with pytest.raises(base.ModelError, match=r"cannot be reached.*base_url"):
    http_scorer.check(server.spec | {"options": unreachable})
  with pytest.raises(base.ModelError, match=r"needs --config\.scorer\.options"):
    http_scorer.check({"model": "judge"})
  assert not server.requests
