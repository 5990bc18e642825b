import os
import pathlib
import socket

import psutil

from tests.integration import sockets


def test_all_that_waits_for_somebody_is_seen(tmp_path: pathlib.Path) -> None:
  name = f'@metamimic-{os.getpid()}'
  path = str(tmp_path / 'socket')
  expected = set()
  with (
    socket.create_server(('127.0.0.1', 0)) as tcp,
    socket.create_server(('::1', 0), family=socket.AF_INET6) as tcp6,
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp6,
    socket.socket(socket.AF_UNIX) as unix,
    socket.socket(socket.AF_UNIX) as nameless,
    socket.create_connection(tcp.getsockname()),
  ):
    udp.bind(('', 0))
    udp6.bind(('::1', 0))
    for server, address in ((unix, path), (nameless, '\0' + name[1:])):
      server.bind(address)
      server.listen()
    for kind, one in (('tcp', tcp), ('tcp', tcp6), ('udp', udp), ('udp', udp6)):
      expected.add((os.getpid(), kind, *one.getsockname()[:2]))
    for address in (path, name):
      expected.add((os.getpid(), 'unix', address, 0))
    assert expected <= sockets.reachable(psutil.Process())
