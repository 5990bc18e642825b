"""Keeps every server of a local run on the loopback interface.

Reverb listens on every interface and has no option for it, so each node is started
with a small library (loopback.c) that turns such a `bind()` into one to loopback.
`check` then looks at what really listens: nothing rests on the library alone.
"""

import hashlib
import ipaddress
import os
import pathlib
import shutil
import socket
import subprocess

import psutil

HOST = '127.0.0.1'
_SOURCE = pathlib.Path(__file__).with_name('loopback.c')
_INSTALL = 'On Debian: sudo apt-get install gcc libc6-dev'


def build_library(*folders: pathlib.Path) -> pathlib.Path:
  """Returns the compiled loopback.c, compiling it at the first call.

  Args:
    *folders: where it may lie; the first that can be written to is taken.

  Raises:
    RuntimeError: there is no C compiler, it fails, or no folder can be written to;
      the message says what to install.
  """
  digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
  refusals = []
  for folder in folders:
    library = folder.resolve() / f'loopback-{digest}.so'
    if set(' :') & set(str(library)):
      refusals.append(f'{folder}: LD_PRELOAD takes no path with a space or a colon')
      continue
    if library.exists():
      return library
    try:
      folder.mkdir(parents=True, exist_ok=True)
      temporary = folder / f'.{library.name}.{os.getpid()}'
      temporary.touch()
    except OSError as e:
      refusals.append(f'{folder}: {e.strerror}')
      continue
    try:
      _compile(temporary)
      temporary.replace(library)
    finally:
      temporary.unlink(missing_ok=True)
    return library
  raise RuntimeError(f'no folder for the compiled {_SOURCE.name}: {refusals}')


def _compile(target: pathlib.Path) -> None:
  compiler = shutil.which('cc')
  if compiler is None:
    raise RuntimeError(
      f'no C compiler (cc) to build {_SOURCE.name}, which keeps the servers of a '
      f'run on loopback. {_INSTALL}'
    )
  command = [compiler, '-O2', '-shared', '-fPIC', '-o', str(target), str(_SOURCE)]
  done = subprocess.run([*command, '-ldl'], capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{_SOURCE} does not compile. {_INSTALL}\n{done.stderr}')


def claim_port(port: int = 0) -> socket.socket:
  """Binds a port of loopback, and so holds it until the socket is closed.

  Two Reverb servers can share a port (SO_REUSEPORT) and would share the traffic
  silently. This bind does without: it fails when anybody has the port, and only
  afterwards lets a server of the same user in. Close it once that server listens.

  Args:
    port: the port, which may still have connections of an earlier server that are
      being closed; 0: any free one.

  Raises:
    RuntimeError: the port is taken.
  """
  claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
  # For those connections; somebody who listens there is in the way even so.
  claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, bool(port))
  try:
    claim.bind((HOST, port))
  except OSError as e:
    claim.close()
    raise RuntimeError(f'port {port} of {HOST} is taken: {e.strerror}') from e
  claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  return claim


def answers(address: str) -> bool:
  """Returns whether something listens at an address, host:port."""
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host, int(port)), timeout=1).close()
  except OSError:
    return False
  return True


def listening_ports() -> set[int]:
  """Returns the ports on which this process listens.

  Raises:
    RuntimeError: one of them can be reached from outside this machine.
  """
  ports = set()
  for connection in psutil.Process().net_connections(kind='tcp'):
    if connection.status != psutil.CONN_LISTEN:
      continue
    ip, port = connection.laddr
    if not _is_loopback(ip):
      raise RuntimeError(
        f'listens on {ip} port {port}, beyond loopback. Nodes have to be started '
        'with LD_PRELOAD naming the library that launch_configs.loopback builds, '
        'as launch_configs.local does'
      )
    ports.add(port)
  return ports


def _is_loopback(ip: str) -> bool:
  address = ipaddress.ip_address(ip)
  if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
    address = address.ipv4_mapped
  return address.is_loopback
