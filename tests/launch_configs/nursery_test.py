from collections.abc import Iterator
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any, NoReturn

import psutil
import pytest

from launch_configs import entry
from launch_configs import nursery
from metamimic import config

FAKE = pathlib.Path(__file__).with_name('fake.py')
WAITING = {'learner-0': 'wait', 'actor-0': 'raise', 'evaluator-0': 'leave'}


@pytest.fixture(name='run_dir')
def run_dir_fixture(tmp_path: pathlib.Path) -> pathlib.Path:
  (tmp_path / 'forked').touch()
  behaviours = tmp_path / 'behaviours.json'
  behaviours.write_text(json.dumps(WAITING))
  settings = config.Config(demonstrations=str(behaviours))
  config.save(settings, str(tmp_path / 'config.json'))
  for folder in ('addresses', 'logs'):
    (tmp_path / folder).mkdir()
  (tmp_path / 'addresses' / 'replay').write_text('127.0.0.1:1')
  return tmp_path


@pytest.fixture(name='nodes')
def nodes_fixture(
  run_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[nursery.Nursery]:
  monkeypatch.setattr(
    nursery,
    'command',
    lambda run_dir: [sys.executable, str(FAKE), 'nursery', str(run_dir), ' ' * 60],
  )
  env = entry.environment(os.environ, pathlib.Path('/nowhere.so'))
  env['FAKE_FORK'] = str(run_dir / 'forked')
  with nursery.Nursery(run_dir, env) as nodes:
    yield nodes


def _start(nodes: nursery.Nursery, run_dir: pathlib.Path, role: str) -> nursery.Process:
  assert nodes.ready(wait=True)
  with open(run_dir / f'{role}.log', 'ab') as output:
    return nodes.start(role, 0, output)


def test_places_are_those_of_the_program(nodes: nursery.Nursery) -> None:
  assert set(nodes.places()) == {
    ('replay', 0, True),
    ('learner', 0, False),
    ('actor', 0, False),
    ('evaluator', 0, False),
  }


def test_node_is_a_child_of_this_process_with_a_session_and_a_name(
  nodes: nursery.Nursery, run_dir: pathlib.Path, wait_until: Any
) -> None:
  node = _start(nodes, run_dir, 'learner')
  log = run_dir / 'learner.log'
  wait_until(lambda: 'behaviour: wait' in log.read_text())
  process = psutil.Process(node.pid)
  assert process.ppid() == os.getpid()
  assert os.getsid(node.pid) == os.getpgid(node.pid) == node.pid
  assert ' '.join(process.cmdline()).split()[-3:] == [str(run_dir), 'learner', '0']
  # Neither the channel to the nursery nor anything else of it.
  assert not [f for f in process.net_connections('unix') if f.fd <= 2]
  assert node.poll() is None
  os.kill(node.pid, signal.SIGTERM)
  assert node.wait(60) == node.returncode == node.poll() == entry.STOPPED


@pytest.mark.parametrize(
  ('role', 'status', 'said'),
  [
    ('actor', 1, "actor-0 failed: ValueError('the brick is gone')\n"),
    ('evaluator', 0, ''),
  ],
)
def test_exit_status_and_log_are_the_nodes_own(
  nodes: nursery.Nursery, run_dir: pathlib.Path, role: str, status: int, said: str
) -> None:
  assert _start(nodes, run_dir, role).wait() == status
  assert (run_dir / f'{role}.log').read_text().endswith(said)


def test_killed_node_is_known_to_be(
  nodes: nursery.Nursery, run_dir: pathlib.Path
) -> None:
  node = _start(nodes, run_dir, 'learner')
  with pytest.raises(subprocess.TimeoutExpired):
    node.wait(0.1)
  os.kill(node.pid, signal.SIGKILL)
  assert node.wait() == -signal.SIGKILL


def test_nursery_that_is_told_to_leave_stays_for_the_launcher_and_its_nodes_do_not(
  nodes: nursery.Nursery, run_dir: pathlib.Path
) -> None:
  nodes.ready(wait=True)
  pid = nodes.pid
  os.kill(pid, signal.SIGTERM)
  node = _start(nodes, run_dir, 'learner')
  assert nodes.pid == pid
  os.kill(node.pid, signal.SIGTERM)
  assert node.wait() in (-signal.SIGTERM, entry.STOPPED)


def test_node_outlives_the_nursery_and_the_next_one_starts_more(
  nodes: nursery.Nursery, run_dir: pathlib.Path, alive: Any, wait_until: Any
) -> None:
  node, before = _start(nodes, run_dir, 'learner'), nodes.pid
  os.kill(before, signal.SIGSTOP)
  os.kill(before, signal.SIGKILL)
  with pytest.raises(nursery.Gone), open(os.devnull, 'wb') as output:
    nodes.start('evaluator', 0, output)
  assert _start(nodes, run_dir, 'evaluator').wait() == 0
  assert nodes.pid != before
  assert node.poll() is None
  os.kill(node.pid, signal.SIGKILL)
  node.wait()


def test_node_of_which_a_dead_nursery_did_not_tell_is_ended(
  nodes: nursery.Nursery, run_dir: pathlib.Path, alive: Any
) -> None:
  known = _start(nodes, run_dir, 'learner')
  forked = run_dir / 'forked'
  forked.unlink()
  other = subprocess.Popen(['sleep', '1000'])
  with pytest.raises(nursery.Gone):
    _start(nodes, run_dir, 'learner')
  assert not alive(int(forked.read_text()))
  assert known.poll() is None
  assert other.poll() is None
  other.kill()
  other.wait()
  assert _start(nodes, run_dir, 'evaluator').wait() == 0
  os.kill(known.pid, signal.SIGKILL)
  known.wait()


def test_nursery_that_cannot_be_started_for_a_while_is_tried_again(
  nodes: nursery.Nursery, run_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  nodes.ready(wait=True)
  os.kill(nodes.pid, signal.SIGKILL)
  nodes._process.wait()

  def stale(*unused: Any, **also: Any) -> NoReturn:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

  with monkeypatch.context() as patch:
    patch.setattr(subprocess, 'Popen', stale)
    for _ in range(2):
      with pytest.raises(OSError, match='Stale'):
        nodes.ready()
  assert _start(nodes, run_dir, 'evaluator').wait() == 0


def test_nursery_that_keeps_dying_is_given_up(
  nodes: nursery.Nursery, alive: Any, wait_until: Any
) -> None:
  with pytest.raises(RuntimeError, match='was ended by SIGKILL'):
    for _ in range(9):
      nodes.ready(wait=True)
      os.kill(nodes.pid, signal.SIGKILL)
      wait_until(lambda: not alive(nodes.pid))


def test_every_start_of_many_comes_to_work(
  nodes: nursery.Nursery, run_dir: pathlib.Path
) -> None:
  nodes_ = [_start(nodes, run_dir, 'evaluator') for _ in range(30)]
  assert {node.wait() for node in nodes_} == {0}
  assert (run_dir / 'evaluator.log').read_text().count('behaviour: leave') == 30
