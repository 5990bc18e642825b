"""Imports once what every node needs, and forks the nodes: `Nursery`.

TensorFlow, Reverb and dm_control take each process seconds to import, and a run has
five on two cores. So one process, the nursery, imports them while the launcher still
checks the run, and every node is a fork of it that begins at once, after a death, too.
What it imported it shares with them until one of them writes there.

A fork takes along only the thread that forks, which is why the nursery has one, and
makes sure of that; TensorFlow, Reverb and GL start theirs in the nodes. A node is no
child of the nursery but of the launcher, as if that had started it: it has its own
session, log and exit status, and the nursery may die without harm to it.

  launcher ── starts ──► nursery ── forks ──► (leaves at once) ── forks ──► node
     ▲                                                                        │
     └──────────────────────── adopts it, as subreaper ───────────────────────┘
"""

from collections.abc import Mapping, Sequence
import contextlib
import ctypes
import gc
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, BinaryIO, NoReturn

import psutil

from launch_configs import entry
from launch_configs import restarts
from metamimic import config

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 60.0  # Seconds for an answer, which takes a hundredth of one.
_MESSAGE = 1 << 16  # Bytes of one, at most; a run has hundreds of nodes at most.
_PLACES = 'places'
_READY = 'ready'


class Gone(RuntimeError):
  """The nursery has died; there will be another one."""


class Process:
  """A child of this process that another one has started; as `subprocess.Popen`."""

  def __init__(self, pid: int) -> None:
    """Takes its process id."""
    self.pid = pid
    self.returncode: int | Any = None
    """Exit status, or the negative number of the signal that ended it; None: it runs,
    or was not asked."""

  def poll(self) -> int | None:
    """Returns `returncode` as it is now."""
    return self._wait(os.WNOHANG)

  def wait(self, timeout: float | None = None) -> int:
    """Returns its exit status once it has left.

    Raises:
      subprocess.TimeoutExpired: it has not, after so many seconds.
    """
    if timeout is None:
      self._wait(0)
    end = time.monotonic() + (timeout or 0)
    while self.poll() is None:
      if time.monotonic() > end:
        raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
      time.sleep(0.02)
    assert self.returncode is not None
    return self.returncode

  def _wait(self, options: int) -> int | None:
    if self.returncode is None:
      pid, status = os.waitpid(self.pid, options)
      if pid:
        self.returncode = os.waitstatus_to_exitcode(status)
    return self.returncode


class Nursery:
  """The launcher's side: one nursery, or the next one if it dies. A context."""

  def __init__(self, run_dir: pathlib.Path, env: Mapping[str, str]) -> None:
    """Starts it; nodes have to wait until it is `ready`.

    Has to be called on the main thread: it dies with the thread that made it.

    Args:
      run_dir: of the run.
      env: environment variables of the nodes, of `entry.environment`.
    """
    self._run_dir = run_dir
    self._env = dict(env)
    self._deaths: list[float] = []
    self._started: list[Process] = []
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    self._begin()

  def _begin(self) -> None:
    output = tempfile.TemporaryFile()
    # Messages with ends, and an end of file when the other side dies.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_PATIENCE)
    with theirs:
      process = subprocess.Popen(
        command(self._run_dir),
        stdin=theirs.fileno(),
        stdout=output,
        stderr=subprocess.STDOUT,
        env=self._env,
        start_new_session=True,
      )
    self._output, self._socket, self._process = output, ours, process
    self._is_ready = False

  def __enter__(self) -> 'Nursery':
    """Returns itself."""
    return self

  def __exit__(self, *unused: object) -> None:
    """Ends it; nodes live on."""
    self._end()

  def _end(self) -> None:
    self._socket.close()
    self._process.kill()
    self._process.wait()
    self._output.close()

  @property
  def pid(self) -> int:
    """Of the nursery."""
    return self._process.pid

  def ready(self, wait: bool = False) -> bool:
    """Returns whether a node can be started at once; a dead nursery is replaced.

    Args:
      wait: for as long as it takes.

    Raises:
      RuntimeError: it died before it was ready, as the next one would, or too often.
      OSError: the next one could not be started, which counts as a death, too.
    """
    if self._is_ready and self._process.poll() is not None:
      self._count_death()
      dead_socket, dead_output = self._socket, self._output
      self._begin()
      dead_socket.close()
      dead_output.close()
    if not self._is_ready:
      self._socket.settimeout(None if wait else 0)
      try:
        self._is_ready = self._receive() == _READY
      except BlockingIOError:
        return False
      except (Gone, OSError) as e:
        raise RuntimeError(self._why_it_died()) from e
      finally:
        self._socket.settimeout(_PATIENCE)
    return True

  def _count_death(self) -> None:
    policy, now = restarts.Policy(), time.monotonic()
    self._deaths = [t for t in self._deaths if now - t < policy.window] + [now]
    if len(self._deaths) > policy.restarts:
      raise RuntimeError(self._why_it_died())

  def _why_it_died(self) -> str:
    status = restarts.describe_status(self._process.wait())
    self._output.seek(0)
    said = self._output.read().decode(errors='replace').strip()
    return f'the nursery of the nodes {status}:\n{said}'

  def places(self) -> list[tuple[str, int, bool]]:
    """Returns role, index, and whether others connect to it, of each of a run's nodes.

    Raises:
      RuntimeError: the nursery died.
    """
    self.ready(wait=True)
    try:
      return [tuple(place) for place in self._ask([_PLACES])]
    except Gone as e:
      raise RuntimeError(self._why_it_died()) from e

  def start(self, role: str, index: int, output: BinaryIO) -> Process:
    """Starts a node.

    Args:
      role: its role.
      index: which one of that role, from 0.
      output: file for what it writes to standard output and error.

    Raises:
      Gone: the nursery has just died; try again when it is `ready`.
    """
    process = Process(self._ask([role, index], output.fileno()))
    self._started = [p for p in self._started if p.returncode is None] + [process]
    return process

  def _ask(self, request: Sequence[Any], *fds: int) -> Any:
    try:
      socket.send_fds(self._socket, [json.dumps(request).encode()], list(fds))
      return self._receive()
    except Gone:
      self._end_unknown()
      raise
    except OSError as e:
      self._process.kill()
      # So that the next look finds it dead, as below.
      self._process.wait()
      self._end_unknown()
      raise Gone(f'the nursery does not answer: {e}') from e

  def _end_unknown(self) -> None:
    """Ends a node of which a nursery that is dead could not tell any more.

    It, or what forks it, is a child of this process now, and would be there twice.
    """
    known = {process.pid for process in self._started}
    while unknown := [
      child
      for child in psutil.Process().children()
      if child.pid not in known and self._is_ours(child)
    ]:
      for child in unknown:
        child.kill()
        child.wait()

  def _is_ours(self, child: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
      mine = self._env[entry.LAUNCHER_VARIABLE]
      return child.environ().get(entry.LAUNCHER_VARIABLE) == mine
    # It has left by itself.
    return False

  def _receive(self) -> Any:
    message = self._socket.recv(_MESSAGE)
    if not message:
      # So that the next look finds it dead.
      self._process.wait()
      raise Gone('the nursery has left')
    return json.loads(message)


def command(run_dir: pathlib.Path) -> list[str]:
  """Returns the command that runs a nursery."""
  # The spaces are room for the nodes' names, see `_show_as`.
  return [sys.executable, '-m', 'launch_configs.nursery', str(run_dir), ' ' * 16]


def main() -> NoReturn:
  """Imports, then forks nodes for as long as the launcher asks for any."""
  entry.die_with_launcher()
  # A cluster may tell every process of a job to leave. The launcher decides when.
  _take_signals(signal.SIG_IGN)
  run_dir = pathlib.Path(sys.argv[1])
  channel = socket.socket(fileno=os.dup(0))
  entry.import_all()
  # What is there now stays: a collection in a node would write to all of its pages.
  gc.collect()
  gc.freeze()
  _check_alone()
  _answer(channel, _READY)
  while True:
    message, fds, _, _ = socket.recv_fds(channel, _MESSAGE, 1)
    if not message:
      sys.exit()
    request = json.loads(message)
    if request == [_PLACES]:
      _answer(channel, _places(run_dir))
      continue
    role, index = request
    (output,) = fds
    _answer(channel, _fork(run_dir, role, index, output, channel))
    os.close(output)


def _take_signals(how: signal.Handlers) -> None:
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, how)


def _answer(channel: socket.socket, what: Any) -> None:
  channel.send(json.dumps(what).encode())


def _places(run_dir: pathlib.Path) -> list[tuple[str, int, bool]]:
  from launch_configs import program

  settings = config.load(str(run_dir / 'config.json'))
  topology = entry.make_program(run_dir, settings, threading.Event(), threading.Event())
  return [(p.role, p.index, p.serves) for p in program.places(topology)]


def _check_alone() -> None:
  """Raises if a thread is alive: what it holds, a fork would wait for in vain."""
  threads = len(os.listdir('/proc/self/task'))
  if threads > 1:
    raise RuntimeError(
      f'{threads} threads are alive where nodes are forked; expected 1'
    )


def _fork(
  run_dir: pathlib.Path, role: str, index: int, output: int, channel: socket.socket
) -> int:
  """Returns the process id of a node, which is a child of the launcher by then."""
  _check_alone()
  reader, writer = os.pipe()
  between = os.fork()
  if not between:
    # Whatever happens here, this is not to go on as if it were the nursery.
    try:
      between = os.getpid()
      if not os.fork():
        _take_signals(signal.SIG_DFL)
        os.setsid()
        os.write(writer, str(os.getpid()).encode())
        for fd in (reader, writer, channel.detach()):
          os.close(fd)
        _be_node(run_dir, role, index, output, between)
    except BaseException:
      traceback.print_exc()
    finally:
      # Of the one in between, nobody asks for the status.
      os._exit(1)
  os.close(writer)
  with open(reader, 'rb') as pipe:
    # It has its session, and so can be sent signals.
    pid = int(pipe.read())
  os.waitpid(between, 0)
  return pid


def _be_node(
  run_dir: pathlib.Path, role: str, index: int, output: int, between: int
) -> NoReturn:
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(output, 1)
  os.dup2(output, 2)
  os.close(output)
  while os.getppid() == between:
    time.sleep(0.001)
  entry.die_with_launcher()
  # All nodes were to draw the same of it.
  np = sys.modules.get('numpy')
  if np is not None:
    np.random.seed()
  sys.argv = entry.command(run_dir, role, index)[2:]
  _show_as(entry.command(run_dir, role, index))
  entry.run(run_dir, role, index)


def _show_as(words: Sequence[str]) -> None:
  """Lets `ps` show a command instead of the nursery's, as far as there is room."""
  with open('/proc/self/stat') as f:
    fields = f.read().rpartition(')')[2].split()
  # See proc(5): arg_start and arg_end, numbers 48 and 49 of them.
  begin, end = int(fields[45]), int(fields[46])
  room = end - begin
  # With a zero at its end, or what follows is taken for more of it.
  text = '\0'.join(words).encode()[: max(room - 1, 0)]
  ctypes.memmove(begin, text.ljust(room, b'\0'), room)


if __name__ == '__main__':
  main()
