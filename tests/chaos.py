"""What goes wrong on a cluster, done to a running pipeline on purpose.

`Chaos` runs a pipeline until it ends well, and in the meantime kills its processes,
drops its connections, fills its disk, and cuts short what a killed run was writing.
"""

import collections
import contextlib
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import psutil

ROOT = pathlib.Path(__file__).parents[1]
TEACHER = """
import signal, sys
from tests.rehearsal import teacher
from vpo_jax import templates
port = int(sys.argv[1])
with teacher.serve({"port": port}, {"refine": templates.load("refine")}):
  signal.pause()
"""


def free_port() -> int:
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


class Teacher:
  """The scripted teacher as a process of its own, which can be killed."""

  def __init__(self, environment: dict[str, str]):
    self.port = free_port()
    self._environment = environment
    self._process: subprocess.Popen | None = None
    self.restart()

  def restart(self) -> None:
    self.kill()
    self._process = subprocess.Popen(
      [sys.executable, "-c", TEACHER, str(self.port)], env=self._environment
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
      with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        return
      time.sleep(0.1)
    raise TimeoutError("the teacher did not start")

  def kill(self) -> None:
    if self._process:
      self._process.kill()
      self._process.wait()


class Proxy:
  """Forwards connections to a port, and can break all of them."""

  def __init__(self, target: int):
    self._target = target
    self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    self.port = self._listener.getsockname()[1]
    self._open: set[socket.socket] = set()
    self._lock = threading.Lock()
    threading.Thread(target=self._accept, daemon=True).start()

  def drop(self) -> int:
    """Breaks the connections; returns their number."""
    with self._lock:
      dropped = list(self._open)
    for one in dropped:
      with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    return len(dropped) // 2

  def close(self) -> None:
    self._listener.close()
    self.drop()

  def _accept(self) -> None:
    while True:
      try:
        client, _ = self._listener.accept()
      except OSError:
        return
      try:
        server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
      except OSError:
        client.close()  # the teacher has just been killed
        continue
      server.settimeout(None)
      arguments = (client, server)
      threading.Thread(target=self._forward, args=arguments, daemon=True).start()

  def _forward(self, client: socket.socket, server: socket.socket) -> None:
    with client, server:
      with self._lock:
        self._open |= {client, server}
      back = threading.Thread(target=_copy, args=(server, client), daemon=True)
      back.start()
      _copy(client, server)
      back.join()
      with self._lock:
        self._open -= {client, server}


def _copy(source: socket.socket, sink: socket.socket) -> None:
  """Copies until one side ends, and then ends both."""
  with contextlib.suppress(OSError):
    while content := source.recv(1 << 16):
      sink.sendall(content)
  for one in (source, sink):
    with contextlib.suppress(OSError):
      one.shutdown(socket.SHUT_RDWR)


class Chaos:
  """A pipeline, and what is done to it.

  Attributes:
    events: how many of each kind were survived.
    restarts: how often the pipeline was started again.
  """

  def __init__(
    self,
    command: Sequence[str],
    workdir: pathlib.Path,
    log: pathlib.Path,
    environment: dict[str, str],
    teacher: Teacher,
    proxy: Proxy,
    seed: int,
    full_disk: bool,
  ):
    """Starts nothing.

    Args:
      command: of the pipeline; the same one continues it.
      full_disk: the workdir is on a disk of its own, which may be filled.
    """
    self._command, self._workdir, self._log = command, workdir, log
    self._environment, self._teacher, self._proxy = environment, teacher, proxy
    self._chance = random.Random(seed)
    self.events: collections.Counter[str] = collections.Counter()
    self.restarts = -1
    self._kinds: dict[str, Callable[[], bool]] = {
      "launcher killed": self._kill_launcher,
      "training or sampling killed": lambda: self._kill("multiprocessing.spawn"),
      "renderer killed": lambda: self._kill("/render"),
      "scorer killed": lambda: self._kill("/score/"),
      "teacher killed": self._kill_teacher,
      "connections dropped": self._drop_connections,
      "unfinished files cut short": self._cut_short,
    }
    if full_disk:
      self._kinds["disk filled"] = self._fill_disk

  def run(self, events: int, pace: float) -> None:
    """Runs the pipeline to its end, with so many events if it lasts as long.

    Args:
      pace: seconds between two events, on average.

    Raises:
      AssertionError: the pipeline ended with anything but a one-line error.
    """
    while True:
      self._start()
      while self._process.poll() is None:
        self._wait(pace * self._chance.uniform(0.3, 1.7))
        if self._process.poll() is None and self.events.total() < events:
          self._one_event()
      if self._process.returncode == 0:
        return
      self._check_end()

  def _start(self) -> None:
    self.restarts += 1
    self._killed = False
    with self._log.open("ab") as log:
      self._from = log.tell()
      self._process = subprocess.Popen(
        self._command,
        stdout=log,
        stderr=log,
        env=self._environment,
        cwd=self._workdir.parent,
        start_new_session=True,
      )

  def _wait(self, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(seconds)

  def _one_event(self) -> None:
    """Does the rarest kind so far that is possible at the moment."""
    names = list(self._kinds)
    self._chance.shuffle(names)
    for name in sorted(names, key=self.events.__getitem__):
      if self._kinds[name]():
        self.events[name] += 1
        print(f"{self.events.total()}: {name}", flush=True)
        return

  def _kill_launcher(self) -> bool:
    self._killed = True
    self._process.kill()
    self._process.wait()
    self._wait_for_children()
    return True

  def _wait_for_children(self) -> None:
    """Its children end by themselves when they notice that it is gone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _processes_of(self._process.pid):
      time.sleep(0.2)

  def _kill(self, word: str) -> bool:
    children = psutil.Process(self._process.pid).children(recursive=True)
    chosen = [child for child in children if _runs(child, word)]
    if not chosen:
      return False
    self._chance.choice(chosen).kill()
    return True

  def _kill_teacher(self) -> bool:
    self._teacher.kill()
    time.sleep(self._chance.uniform(0, 2))
    self._teacher.restart()
    return True

  def _drop_connections(self) -> bool:
    for _ in range(100):  # most stages ask the teacher for a few seconds only
      if self._proxy.drop():
        return True
      time.sleep(0.02)
    return False

  def _cut_short(self) -> bool:
    """A crash of the machine: nothing runs on, and unfinished files lose their ends."""
    unfinished = [
      path
      for pattern in (".aside-*", "*.orbax-checkpoint-tmp*", "*.part", "*.tmp*")
      for path in self._workdir.rglob(pattern)
    ]
    if not unfinished:
      return False
    self._killed = True
    for child in [*_processes_of(self._process.pid)]:
      with contextlib.suppress(psutil.Error):
        child.kill()
    self._process.kill()
    self._process.wait()
    for path in unfinished:
      parts = path.rglob("*") if path.is_dir() else [path]
      for part in parts:
        with contextlib.suppress(OSError):
          if part.is_file():
            os.truncate(part, part.stat().st_size // 2)
    return True

  def _fill_disk(self) -> bool:
    filler = self._workdir.parent / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
      while True:
        file.write(bytes(1 << 20))
    time.sleep(self._chance.uniform(2, 6))
    filler.unlink()
    return True

  def _check_end(self) -> None:
    """Whoever was not killed explains its end in one line."""
    if self._killed:
      return
    with self._log.open("rb") as log:
      log.seek(self._from)
      text = log.read().decode(errors="replace")
    last = text.strip().split("\n")[-1]
    assert last.startswith("error: "), text[-3000:]


def _processes_of(session: int) -> list[psutil.Process]:
  """The living processes of a session."""
  found = []
  for process in psutil.process_iter():
    with contextlib.suppress(psutil.Error, OSError):
      ended = process.status() == psutil.STATUS_ZOMBIE
      if os.getsid(process.pid) == session and not ended:
        found.append(process)
  return found


def _runs(process: psutil.Process, word: str) -> bool:
  with contextlib.suppress(psutil.Error):
    return any(word in part for part in process.cmdline()[1:])
  return False
