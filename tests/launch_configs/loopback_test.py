import errno
import os
import pathlib
import re
import socket
import subprocess
import sys
from unittest import mock

import psutil
import pytest

from launch_configs import loopback

ROOT = pathlib.Path(__file__).parents[2]

SERVER = """
import reverb
from launch_configs import loopback
claim = loopback.claim_port()
port = claim.getsockname()[1]
server = reverb.Server([reverb.Table.queue('queue', 10)], port=port)
try:
  print(loopback.listening_ports() == {port})
except RuntimeError as e:
  print(e)
claim.close()
client = reverb.Client(f'127.0.0.1:{port}')
client.insert([1.0], {'queue': 1.0})
print(client.server_info(timeout=20)['queue'].current_size)
try:
  loopback.claim_port(port)
except RuntimeError as e:
  print(str(e).replace(str(port), 'PORT'))
"""


def _serve(**env: str) -> list[str]:
  done = subprocess.run(
    [sys.executable, '-W', 'ignore', '-c', SERVER],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env},
    timeout=120,
    check=True,
  )
  return done.stdout.splitlines()


def test_reverb_server_is_kept_on_loopback(tmp_path: pathlib.Path) -> None:
  library = loopback.build_library(tmp_path)
  assert _serve(LD_PRELOAD=str(library)) == [
    'True',
    '1',
    'port PORT of 127.0.0.1 is taken: Address already in use',
  ]


def test_reverb_server_without_the_library_is_noticed() -> None:
  verdict, size, _ = _serve(LD_PRELOAD='')
  assert verdict.startswith('listens on :: port ')
  assert 'beyond loopback' in verdict
  assert size == '1'


BIND = """
import socket
def bound(family, kind, host):
  s = socket.socket(family, kind)
  try:
    s.bind((host, 0))
  except OSError as e:
    return type(e).__name__ + str(e.errno)
  return s.getsockname()[0]
print(bound(socket.AF_INET, socket.SOCK_STREAM, ''))
print(bound(socket.AF_INET6, socket.SOCK_STREAM, ''))
print(bound(socket.AF_INET, socket.SOCK_STREAM, '127.0.0.2'))
print(bound(socket.AF_INET, socket.SOCK_DGRAM, ''))
"""


@pytest.mark.parametrize(
  ('env', 'wildcards'),
  [
    ({}, ['127.0.0.1', '::ffff:127.0.0.1']),
    # Stands for this host's address in a network.
    ({'METAMIMIC_HOST': '127.0.0.3'}, ['127.0.0.3', '::ffff:127.0.0.3']),
    *(
      ({'METAMIMIC_HOST': wrong}, [f'OSError{errno.EADDRNOTAVAIL}'] * 2)
      for wrong in ('0.0.0.0', '::1', 'here', '')
    ),
  ],
)
def test_library_turns_wildcards_to_one_address_and_nothing_else(
  tmp_path: pathlib.Path, env: dict[str, str], wildcards: list[str]
) -> None:
  library = loopback.build_library(tmp_path)
  done = subprocess.run(
    [sys.executable, '-c', BIND],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'LD_PRELOAD': str(library), **env},
    check=True,
  )
  assert done.stdout.split() == [*wildcards, '127.0.0.2', '0.0.0.0']


def _with_addresses(monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> None:
  found = {
    name: [mock.Mock(family=socket.AF_INET, address=ip) for ip in ips]
    for name, ips in addresses.items()
  }
  monkeypatch.setattr(psutil, 'net_if_addrs', lambda: found)


@pytest.mark.parametrize(
  ('network', 'expected'),
  [
    ('10.1.0.0/16', '10.1.0.7'),
    ('10.1.99.99/16', '10.1.0.7'),
    ('ib0', '10.2.0.7'),
    ('192.168.0.0/16', '192.168.0.7'),
  ],
)
def test_host_is_the_address_in_the_network(
  monkeypatch: pytest.MonkeyPatch, network: str, expected: str
) -> None:
  _with_addresses(
    monkeypatch, lo=['127.0.0.1'], eth0=['10.1.0.7', '192.168.0.7'], ib0=['10.2.0.7']
  )
  assert loopback.host_in(network) == expected


@pytest.mark.parametrize('network', ['172.16.0.0/12', '10.0.0.0/8', 'eth0', 'eth9'])
def test_host_without_a_single_address_in_the_network_says_what_it_has(
  monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
  _with_addresses(
    monkeypatch, lo=['127.0.0.1'], eth0=['10.1.0.7', '192.168.0.7'], ib0=['10.2.0.7']
  )
  has = 'has 10.1.0.7 (eth0), 192.168.0.7 (eth0), 10.2.0.7 (ib0)'
  with pytest.raises(RuntimeError, match=re.escape(has)) as e:
    loopback.host_in(network)
  assert str(e.value).startswith(f'cluster_network is {network}; expected one in which')


def test_server_may_listen_on_the_host_it_is_told_and_nowhere_else() -> None:
  own = loopback.listening_ports()
  with socket.socket() as server:
    server.bind(('', 0))
    server.listen()
    with pytest.raises(RuntimeError, match=r'listens on 0\.0\.0\.0 .* beyond 10'):
      loopback.listening_ports('10.1.0.7')
    # Not that any host would be told so; see loopback.c.
    assert loopback.listening_ports('0.0.0.0') == {*own, server.getsockname()[1]}


def test_library_is_compiled_once(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  library = loopback.build_library(tmp_path)
  monkeypatch.setenv('PATH', '')
  assert loopback.build_library(tmp_path) == library
  assert [f.name for f in tmp_path.iterdir()] == [library.name]


def test_library_lies_in_the_first_folder_that_can_hold_it(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / 'file').touch()
  library = loopback.build_library(
    tmp_path / 'a b', tmp_path / 'file' / 'x', tmp_path / 'run'
  )
  assert library.parent == tmp_path / 'run'
  with pytest.raises(RuntimeError, match='no path with a space or a colon'):
    loopback.build_library(tmp_path / 'a b')


def test_missing_compiler_is_named(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setenv('PATH', '')
  with pytest.raises(RuntimeError, match=r'no C compiler \(cc\).*apt-get install gcc'):
    loopback.build_library(tmp_path)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('reuse', [False, True])
def test_taken_port_is_refused(reuse: bool) -> None:
  with socket.socket() as other:
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
    other.bind(('', 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(RuntimeError, match=f'port {port} of 127.0.0.1 is taken'):
      loopback.claim_port(port)


def test_port_of_a_server_that_died_is_claimed_again() -> None:
  with socket.create_server((loopback.HOST, 0)) as server:
    port = server.getsockname()[1]
    with socket.create_connection((loopback.HOST, port)) as client:
      # Whoever closes first is left with the connection for a minute.
      server.accept()[0].close()
      assert client.recv(1) == b''
    assert loopback.answers(f'{loopback.HOST}:{port}')
  assert not loopback.answers(f'{loopback.HOST}:{port}')
  loopback.claim_port(port).close()


def test_claim_keeps_others_out_and_lets_the_server_in() -> None:
  with loopback.claim_port() as claim:
    port = claim.getsockname()[1]
    with pytest.raises(RuntimeError, match='is taken'):
      loopback.claim_port(port)
    with socket.socket() as server:
      server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
      server.bind((loopback.HOST, port))
      server.listen()
      assert port in loopback.listening_ports()
