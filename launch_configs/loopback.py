"""Keeps every server of a run on loopback, or on the one address that it is told.

Reverb listens on every interface and has no option for it, so each node is started
with a small library (loopback.c) that turns such a `bind()` into one to loopback or,
on a cluster, to this host's address in the network that the user named.
`listening_ports` then looks at what really listens: nothing rests on the library alone.
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
"""Where servers are bound that are not told anything else."""
HOST_VARIABLE = 'METAMIMIC_HOST'
"""Environment variable with the address, which the library reads, too."""
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


def host_in(network: str) -> str:
  """Returns this host's address in a network.

  Args:
    network: an IPv4 network, as in 10.0.0.0/8, or the name of an interface.

  Raises:
    RuntimeError: it has none there, or several; the message lists those it has.
  """
  addresses = {
    (name, address.address)
    for name, given in psutil.net_if_addrs().items()
    for address in given
    if address.family == socket.AF_INET and not _is_loopback(address.address)
  }
  inside = {
    ip
    for name, ip in addresses
    if (
      ipaddress.ip_address(ip) in ipaddress.ip_network(network, strict=False)
      if '/' in network
      else name == network
    )
  }
  if len(inside) == 1:
    return inside.pop()
  here = ', '.join(f'{ip} ({name})' for name, ip in sorted(addresses)) or 'none'
  raise RuntimeError(
    f'cluster_network is {network}; expected one in which {socket.gethostname()} has '
    f'a single address. It has {here}'
  )


def claim_port(port: int = 0, host: str = HOST) -> socket.socket:
  """Binds a port, and so holds it until the socket is closed.

  Two Reverb servers can share a port (SO_REUSEPORT) and would share the traffic
  silently. This bind does without: it fails when anybody has the port, and only
  afterwards lets a server of the same user in. Close it once that server listens.

  Args:
    port: the port, which may still have connections of an earlier server that are
      being closed; 0: any free one.
    host: the address of this host on which to bind it.

  Raises:
    RuntimeError: the port is taken.
  """
  claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
  # For those connections; somebody who listens there is in the way even so.
  claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, bool(port))
  try:
    claim.bind((host, port))
  except OSError as e:
    claim.close()
    raise RuntimeError(f'port {port} of {host} is taken: {e.strerror}') from e
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


def listening_ports(host: str = HOST) -> set[int]:
  """Returns the ports on which this process listens.

  Args:
    host: the address on which it may, beside loopback.

  Raises:
    RuntimeError: it listens on another one.
  """
  ports = set()
  for connection in psutil.Process().net_connections(kind='tcp'):
    if connection.status != psutil.CONN_LISTEN:
      continue
    ip, port = connection.laddr
    if not _is_loopback(ip) and _unmapped(ip) != ipaddress.ip_address(host):
      allowed = 'loopback' if _is_loopback(host) else host
      raise RuntimeError(
        f'listens on {ip} port {port}, beyond {allowed}. Nodes have to be started '
        'with LD_PRELOAD naming the library that launch_configs.loopback builds, '
        'as launch_configs.local does'
      )
    ports.add(port)
  return ports


def _is_loopback(ip: str) -> bool:
  return _unmapped(ip).is_loopback


def _unmapped(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
  address = ipaddress.ip_address(ip)
  if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
    return address.ipv4_mapped
  return address
