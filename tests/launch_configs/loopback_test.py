import os
import pathlib
import socket
import subprocess
import sys

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


def test_library_turns_wildcards_to_loopback_and_nothing_else(
  tmp_path: pathlib.Path,
) -> None:
  code = """
import socket
def bound(family, kind, host):
  s = socket.socket(family, kind)
  s.bind((host, 0))
  return s.getsockname()[0]
print(bound(socket.AF_INET, socket.SOCK_STREAM, ''))
print(bound(socket.AF_INET, socket.SOCK_STREAM, '127.0.0.2'))
print(bound(socket.AF_INET, socket.SOCK_DGRAM, ''))
"""
  library = loopback.build_library(tmp_path)
  done = subprocess.run(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'LD_PRELOAD': str(library)},
    check=True,
  )
  assert done.stdout.split() == ['127.0.0.1', '127.0.0.2', '0.0.0.0']


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
