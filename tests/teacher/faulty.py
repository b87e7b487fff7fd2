"""An HTTP server on loopback that answers, or fails, as a test's script says."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable

# Faults that a script may return instead of a reply's text.
DROP, CUT, HANG, GARBAGE, PAGE = "drop!", "cut!", "hang!", "garbage!", "page!"


def completion(text, finish_reason="stop", refusal=None, usage=(10, 5)):
  """Returns the body of a chat completion."""
  message = {"role": "assistant", "content": text, "refusal": refusal}
  return {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
    "usage": {
      "prompt_tokens": usage[0],
      "completion_tokens": usage[1],
      "total_tokens": sum(usage),
    },
  }


def error(status, message="no", code=None, **headers):
  return status, headers, {"error": {"message": message, "code": code, "type": "e"}}


class Server:
  """Answers each request by `script(number, body)`.

  The script returns a reply's text, one of the faults above, a completion's body, or
  (status, headers, body).
  """

  def __init__(self, script: Callable):
    self.script = script
    self.requests: list[dict] = []
    self.keys: list[str] = []
    self.most_at_once = 0
    self._at_once = 0
    self.delay = 0.0
    self.base_url = ""
    self._connections: set = set()

  async def serve(self, ready: threading.Event, stop: asyncio.Event):
    server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
    self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    ready.set()
    await stop.wait()
    server.close()
    for task in self._connections:
      task.cancel()
    await asyncio.gather(*self._connections, return_exceptions=True)

  async def _connection(self, reader, writer):
    task = asyncio.current_task()
    self._connections.add(task)
    try:
      with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await self._request(reader, writer):
          pass
    finally:
      self._connections.discard(task)
      writer.close()

  async def _request(self, reader, writer) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if head[0].startswith("GET"):
      return await self._send(writer, 200, {}, {"object": "list", "data": []})
    if not head[0].startswith("POST /v1/chat/completions "):
      return await self._send(writer, *error(404, "no such path"))
    self.keys.append(headers.get("authorization", ""))
    number, request = len(self.requests), json.loads(body)
    self.requests.append(request)
    self._at_once += 1
    self.most_at_once = max(self.most_at_once, self._at_once)
    try:
      await asyncio.sleep(self.delay)
      answer = self.script(number, request)
      return await self._answer(writer, answer)
    finally:
      self._at_once -= 1

  async def _answer(self, writer, answer) -> bool:
    if answer == DROP:
      return False
    if answer == HANG:
      await asyncio.sleep(30)
      return False
    if answer == CUT:
      head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900"
      writer.write(f'{head}\r\n\r\n{{"id": "1", "cho'.encode())
      await writer.drain()
      return False
    if answer == GARBAGE:
      return await self._send(writer, 200, {}, b'{"choices": [{"mess')
    if answer == PAGE:
      return await self._send(writer, 200, {"Content-Type": "text/html"}, b"<html>hi")
    if isinstance(answer, str):
      return await self._send(writer, 200, {}, completion(answer))
    if isinstance(answer, dict):
      return await self._send(writer, 200, {}, answer)
    return await self._send(writer, *answer)

  async def _send(self, writer, status, headers, body) -> bool:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return True


@contextlib.contextmanager
def running(server: Server):
  ready, loops = threading.Event(), []

  async def main():
    stop = asyncio.Event()
    loops.append((asyncio.get_running_loop(), stop))
    await server.serve(ready, stop)

  thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
  thread.start()
  assert ready.wait(10)
  try:
    yield server
  finally:
    loop, stop = loops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
