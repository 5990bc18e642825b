"""By which sockets the processes of a run can be reached."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket
from typing import NamedTuple

import psutil

_LISTENS = 0x10000  # Of the flags in /proc/PID/net/unix.


class Socket(NamedTuple):
  """A socket that waits for somebody."""

  pid: int
  kind: str
  """tcp, udp, or unix."""
  host: str
  """IP address; of unix the path, which begins with @ for a name without a file."""
  port: int


def reachable(launcher: psutil.Process) -> set[Socket]:
  """Returns those of a process and of all that it started, as they are now."""
  found: set[Socket] = set()
  with contextlib.suppress(psutil.NoSuchProcess):
    for process in [launcher, *launcher.children(recursive=True)]:
      with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
        found |= {*_internet(process), *_unix(process)}
  return found


def _internet(process: psutil.Process) -> Iterator[Socket]:
  for connection in process.net_connections(kind='inet'):
    if connection.type == socket.SOCK_STREAM:
      if connection.status == psutil.CONN_LISTEN:
        yield Socket(process.pid, 'tcp', *connection.laddr)
    # A connected one hears nobody else.
    elif connection.laddr and not connection.raddr:
      yield Socket(process.pid, 'udp', *connection.laddr)


def _unix(process: psutil.Process) -> Iterator[Socket]:
  folder = pathlib.Path(f'/proc/{process.pid}')
  own = set()
  for path in (folder / 'fd').iterdir():
    # One is that of looking.
    with contextlib.suppress(FileNotFoundError):
      own.add(os.readlink(path))
  for line in (folder / 'net' / 'unix').read_text().splitlines()[1:]:
    _, _, _, flags, _, _, inode, *name = line.split()
    if int(flags, 16) & _LISTENS and f'socket:[{inode}]' in own:
      yield Socket(process.pid, 'unix', ' '.join(name), 0)
