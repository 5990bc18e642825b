import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
from typing import Any, BinaryIO

import pytest

from launch_configs import disk
from launch_configs import restarts
from launch_configs import run_directory
from launch_configs import supervisor
from metamimic import config
from metamimic import notices

NODES = {'replay-0', 'learner-0', 'evaluator-0', 'actor-0'}
WAITING = dict.fromkeys(NODES - {'replay-0'}, 'wait')


def test_run_that_is_done_exits_0_and_leaves_nothing(launch: Any) -> None:
  run = launch({})
  status, output = run.finish()
  assert status == 0
  assert 'learner 600/600' in output
  assert set(run.pids()) == NODES
  statuses = {e['node']: e['status'] for e in run.events('exit')}
  assert statuses == {
    'learner-0': 0,
    'actor-0': 0,
    'evaluator-0': 0,
    'replay-0': 143,  # Asked to stop when the others were done.
  }
  assert run.events('end')[-1]['status'] == 0
  assert run.nothing_left()


def test_node_that_raises_fails_the_run_with_its_role_and_traceback(
  launch: Any,
) -> None:
  run = launch({'actor-0': 'raise', 'learner-0': 'wait'})
  status, output = run.finish()
  assert status == 1
  assert 'actor-0 left with exit status 1 after ' in output
  assert ' s; the end of' in output
  assert run.events('restart') == []
  assert 'Traceback (most recent call last):' in output
  assert "raise ValueError('the brick is gone')" in output
  assert "actor-0 failed: ValueError('the brick is gone')" in output
  assert run.nothing_left()


def test_killed_nodes_are_started_again_and_the_run_ends_well(
  launch: Any, wait_until: Any
) -> None:
  run = launch(WAITING)
  run.wait_until_works(*NODES)
  before = run.pids()
  address = run_directory.published_address(run.dir, 'replay')
  run.behave({'learner-0': 'wait'})
  for node in ('replay-0', 'evaluator-0', 'actor-0'):
    os.kill(before[node], signal.SIGKILL)
    wait_until(lambda node=node: run.log(node).count('behaviour:') == 2)
  assert run.pids()['learner-0'] == before['learner-0']
  # At the same address, where its clients look for it.
  assert run_directory.published_address(run.dir, 'replay') == address
  run.behave({})
  os.kill(before['learner-0'], signal.SIGKILL)
  status, output = run.finish()
  assert status == 0
  for node in NODES:
    assert (
      f'{node} was ended by SIGKILL (out of memory?); '
      'it is started again in 0.1 s (1 of 5)\n'
    ) in output
  restarts = run.events('restart')
  assert [e['node'] for e in restarts] == [
    *('replay-0', 'evaluator-0', 'actor-0', 'learner-0')
  ]
  assert {(e['status'], e['count']) for e in restarts} == {(-signal.SIGKILL, 1)}
  assert run.nothing_left()


def test_learner_that_was_done_publishes_again_to_a_server_that_comes_back(
  launch: Any, wait_until: Any
) -> None:
  run = launch({'learner-0': 'leave', 'actor-0': 'leave', 'evaluator-0': 'wait'})
  run.wait_until_works('evaluator-0')
  wait_until(lambda: len(run.events('exit')) == 2)
  run.behave({'evaluator-0': 'leave', 'learner-0': 'leave'})
  os.kill(run.pids()['replay-0'], signal.SIGKILL)
  wait_until(lambda: len(run.events('exit')) == 4)
  starts = [e['node'] for e in run.events('start')]
  assert starts.count('learner-0') == starts.count('replay-0') == 2
  assert starts.count('actor-0') == 1
  run.signal(signal.SIGTERM)
  _, output = run.finish()
  assert 'learner-0 was done, and is started to tell the server so\n' in output


def test_node_told_to_leave_by_somebody_else_is_started_again(
  launch: Any, wait_until: Any
) -> None:
  run = launch(WAITING)
  run.wait_until_works(*NODES)
  os.kill(run.pids()['learner-0'], signal.SIGTERM)
  wait_until(lambda: run.log('learner-0').count('behaviour:') == 2)
  run.signal(signal.SIGTERM)
  status, output = run.finish()
  assert status == 143
  assert 'learner-0 left with exit status 143; it is started again' in output


def test_node_that_keeps_dying_fails_the_run_after_growing_pauses(launch: Any) -> None:
  policy = {'restarts': 3, 'longest_pause': 0.15, 'window': 1000}
  run = launch(WAITING | {'actor-0': 'die'}, FAKE_POLICY=json.dumps(policy))
  status, output = run.finish()
  assert status == 1
  assert (
    'actor-0 was ended by SIGKILL (out of memory?), 4 times in 1000 s; the end of '
    f'{run.dir}/actor-0.log:\nbehaviour: die\n'
  ) in output
  assert [(e['count'], e['pause']) for e in run.events('restart')] == [
    (1, 0.1),
    (2, 0.15),
    (3, 0.15),
  ]
  assert run.nothing_left()


def test_deaths_of_long_ago_do_not_count(launch: Any, wait_until: Any) -> None:
  policy = {'restarts': 1, 'window': 0.01}
  run = launch(WAITING | {'actor-0': 'die'}, FAKE_POLICY=json.dumps(policy))
  wait_until(lambda: len(run.events('restart')) == 3)
  assert {e['count'] for e in run.events('restart')} == {1}
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


@pytest.mark.parametrize(
  ('behaviour', 'restarts', 'reason'),
  [
    ('raise', 1, ' as it did before; the end of'),
    ('raise anew', 2, ', 3 times in 600 s; the end of'),
  ],
)
def test_exception_of_a_node_that_had_worked_is_worth_another_try(
  launch: Any, behaviour: str, restarts: int, reason: str
) -> None:
  policy = {'restarts': 2, 'settled': 0.0}
  run = launch(WAITING | {'actor-0': behaviour}, FAKE_POLICY=json.dumps(policy))
  status, output = run.finish()
  assert status == 1
  assert f'actor-0 left with exit status 1{reason}' in output
  assert 'the brick is gone' in output
  assert len(run.events('restart')) == restarts


def test_stop_does_not_wait_for_a_node_that_is_to_be_started(
  launch: Any, wait_until: Any
) -> None:
  run = launch(WAITING, FAKE_POLICY='{"first_pause": 1000, "longest_pause": 1000}')
  run.wait_until_works(*NODES)
  os.kill(run.pids()['replay-0'], signal.SIGKILL)
  wait_until(lambda: run.events('restart'))
  run.signal(signal.SIGINT)
  assert run.finish()[0] == 130
  assert run.nothing_left()


def test_every_node_leaving_early_is_no_success(launch: Any) -> None:
  run = launch({'learner-0': 'leave', 'actor-0': 'leave', 'evaluator-0': 'leave'})
  status, output = run.finish()
  assert status == 1
  assert 'every node left, but' in output


@pytest.mark.parametrize(
  ('signum', 'expected'),
  [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_signal_stops_the_run_clients_first(
  launch: Any, signum: signal.Signals, expected: int
) -> None:
  run = launch(WAITING)
  run.wait_until_works(*NODES)
  run.signal(signum)
  status, output = run.finish()
  assert status == expected
  assert f'{signum.name}: stopping' in output
  exits = [(e['node'], e['status']) for e in run.events('exit')]
  assert exits[-1] == ('replay-0', 143)
  assert {status for _, status in exits} == {143}
  assert run.nothing_left()


def test_node_that_does_not_leave_is_killed_and_says_where_it_hung(
  launch: Any,
) -> None:
  run = launch({'learner-0': 'deaf', 'actor-0': 'wait', 'evaluator-0': 'wait'})
  run.wait_until_works(*NODES)
  run.signal(signal.SIGTERM)
  status, output = run.finish()
  assert status == 143
  assert 'learner-0 did not leave and was killed' in output
  assert 'in _deaf' in run.log('learner-0')
  assert [e['node'] for e in run.events('kill')] == ['learner-0']
  assert run.nothing_left()


def test_killed_launcher_takes_its_nodes_along(launch: Any, wait_until: Any) -> None:
  run = launch(WAITING | {'learner-0': 'deaf'})
  run.wait_until_works(*NODES)
  run.signal(signal.SIGKILL)
  assert run.finish()[0] == -signal.SIGKILL
  wait_until(run.nothing_left)


def test_killed_nursery_is_replaced_and_harms_no_node(
  launch: Any, alive: Any, wait_until: Any
) -> None:
  run = launch(WAITING)
  run.wait_until_works(*NODES)
  before = run.pids()
  nursery = run.events('launch')[0]['nursery']
  os.kill(nursery, signal.SIGKILL)
  wait_until(lambda: not alive(nursery))
  os.kill(before['actor-0'], signal.SIGKILL)
  wait_until(lambda: run.log('actor-0').count('behaviour:') == 2)
  for node in NODES - {'actor-0'}:
    assert run.pids()[node] == before[node]
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143
  assert run.nothing_left()


def test_run_whose_nodes_cannot_be_imported_fails_and_says_why(launch: Any) -> None:
  status, output = launch(WAITING, FAKE_IMPORT='raise').finish()
  assert status == 1
  assert 'error: the nursery of the nodes left with exit status 1:\n' in output
  assert output.endswith('ImportError: the brick is gone\n')


def test_no_node_is_forked_beside_a_thread(launch: Any) -> None:
  status, output = launch(WAITING, FAKE_IMPORT='thread').finish()
  assert status == 1
  assert '2 threads are alive where nodes are forked; expected 1' in output


def test_children_of_a_killed_node_are_ended(
  launch: Any, alive: Any, wait_until: Any
) -> None:
  run = launch(WAITING | {'actor-0': 'child'})
  run.wait_until_works(*NODES)
  child = run.dir / 'child'
  while not child.exists() or not child.read_text():
    pass
  assert alive(int(child.read_text()))
  os.kill(run.pids()['actor-0'], signal.SIGKILL)
  wait_until(lambda: not alive(int(child.read_text())))


@pytest.mark.parametrize(
  ('behaviours', 'reason'),
  [
    ({'learner-0': 'wait'}, 'replay holds 0 of the 200 transitions it begins with'),
    ({'replay-0': 'wait'}, 'replay-0 does not serve yet, see '),
    ({'actor-0': 'leave'}, 'no actor runs'),
  ],
)
def test_stalled_run_says_on_what_it_waits(
  launch: Any, behaviours: dict[str, str], reason: str
) -> None:
  run = launch(WAITING | behaviours, '--stall-warning', '0.5')
  lines = iter(run.process.stdout.readline, '')
  warning = next(line for line in lines if reason in line)
  assert warning.startswith('no progress of the learner for ')
  assert '; running: replay-0 learner-0 evaluator-0' in warning
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


def test_stalled_run_tells_of_a_server_that_is_away(launch: Any) -> None:
  policy = '{"first_pause": 1000, "longest_pause": 1000}'
  run = launch(WAITING, '--stall-warning', '0.5', FAKE_POLICY=policy)
  run.wait_until_works(*NODES)
  os.kill(run.pids()['replay-0'], signal.SIGKILL)
  lines = iter(run.process.stdout.readline, '')
  next(line for line in lines if 'replay-0 does not answer, see ' in line)
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


def test_one_stalled_learner_of_two_is_named_with_what_it_says(launch: Any) -> None:
  run = launch(
    WAITING | {'actor-1': 'wait', 'learner-0': 'progress', 'learner-1': 'say'},
    *('--task.learn', '--stall-warning', '2'),
  )
  lines = iter(run.process.stdout.readline, '')
  start = 'no progress of the task learner for '
  said = f' s: waiting 99 s for a sign, see {run.dir}/learner-1.log; running: '
  next(line for line in lines if line.startswith(start) and said in line)
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


def test_a_learner_that_is_done_and_does_not_leave_is_not_said_to_stall(
  launch: Any,
) -> None:
  run = launch(WAITING | {'learner-0': 'tarry'}, '--stall-warning', '0.5')
  lines = iter(run.process.stdout.readline, '')
  said = f' s: waiting 99 s for a sign, see {run.dir}/learner-0.log; running: '
  line = next(line for line in lines if said in line)
  assert line.startswith('the learner is done, and has not exited for ')
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


def test_that_a_learner_waits_to_begin_is_said_once(tmp_path: pathlib.Path) -> None:
  settings = config.Config(task=config.TaskConfig(learn=True))
  nursery: Any = None
  run = supervisor.Supervisor(tmp_path, settings, [], nursery)
  assert [run._waits_as_it_should('task') for _ in range(2)] == [False, False]
  (tmp_path / 'logs').mkdir()
  for name, steps in (('imitation', 10), ('task', 0)):
    log = tmp_path / 'logs' / f'learner-{name}.csv'
    log.write_text(f'wall_time,learner_steps\n1,{steps}\n')
  run._progress.update()
  assert [run._waits_as_it_should('task') for _ in range(3)] == [False, True, True]
  assert not run._waits_as_it_should('imitation')


def test_what_nodes_have_to_tell_is_shown(launch: Any) -> None:
  run = launch(WAITING)
  run.wait_until_works(*NODES)
  notices.tell(run.dir, 'the disk is full')
  lines = iter(run.process.stdout.readline, '')
  next(line for line in lines if line == 'the disk is full\n')
  run.signal(signal.SIGTERM)
  run.finish()
  again = launch(None)
  again.wait_until_works(*NODES)
  again.signal(signal.SIGTERM)
  assert 'the disk is full' not in again.finish()[1]


def test_waiting_for_others_after_the_learner_is_said(launch: Any) -> None:
  run = launch({'actor-0': 'wait'}, '--stall-warning', '0.5')
  lines = iter(run.process.stdout.readline, '')
  warning = next(line for line in lines if line.startswith('the learner left; waiting'))
  assert f'see {run.dir}/actor-0.log' in warning
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


def test_log_of_an_earlier_launch_is_not_reported(tmp_path: pathlib.Path) -> None:
  log = tmp_path / 'actor-0.log'
  log.write_text('Traceback (most recent call last):\nValueError: old\n')
  start = log.stat().st_size
  assert restarts.last_words(log, start) == '(the log is empty)'
  with open(log, 'a') as f:
    f.write(''.join(f'line {i}\n' for i in range(30)))
  assert restarts.last_words(log, start) == '\n'.join(
    f'line {i}' for i in range(10, 30)
  )
  with open(log, 'a') as f:
    f.write('Traceback (most recent call last):\n  here\nOSError: new\nactor-0 failed')
  assert restarts.last_words(log, start) == (
    'Traceback (most recent call last):\n  here\nOSError: new\nactor-0 failed'
  )


def test_log_that_cannot_be_read_has_no_last_words(tmp_path: pathlib.Path) -> None:
  said = '(the log cannot be read: Is a directory)'
  assert restarts.last_words(tmp_path) == said
  history = restarts.History(restarts.Policy())
  # What a node died of is not known to be the same.
  assert [history.add(1, 60.0, tmp_path, 0) for _ in range(2)] == ['', '']


def test_the_same_words_long_after_are_worth_another_try(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  log = tmp_path / 'actor-0.log'
  log.write_text('OSError: the brick is gone\n')
  now = 1000.0
  monkeypatch.setattr(restarts.time, 'monotonic', lambda: now)
  history = restarts.History(restarts.Policy())
  assert history.add(1, 60.0, log, 0) == ''
  now += history.policy.window + 1
  assert history.add(1, 60.0, log, 0) == ''
  now += history.policy.window - 1
  assert history.add(1, 60.0, log, 0) == ' as it did before'


@pytest.mark.parametrize('number', [errno.ESTALE, errno.EIO])
def test_node_whose_log_cannot_be_opened_for_a_while_is_started_later(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
  number: int,
) -> None:
  failures = iter([True])

  def open_(path: Any, *args: Any, **also: Any) -> Any:
    if str(path).endswith('learner-0.log') and next(failures, False):
      raise OSError(number, os.strerror(number), str(path))
    return open(path, *args, **also)

  monkeypatch.setattr(supervisor, 'open', open_, raising=False)
  monkeypatch.setattr(supervisor, '_PAUSE', 0.2)
  assert _supervise(tmp_path, {'learner': ''}) == supervisor.DONE
  said = ' '.join(capsys.readouterr().out.split())
  assert f'learner-0: [Errno {number}] ' in said
  assert 'it is tried again' in said


def test_server_that_leaves_fails_the_run(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  code = {'replay': 'print("bye")', 'learner': 'import time; time.sleep(60)'}
  assert _supervise(tmp_path, code) == supervisor.FAILED
  output = capsys.readouterr().out
  assert 'replay-0 left with exit status 0 after 0 s; the end of' in output
  assert output.splitlines()[-1] == 'bye'


def test_native_crash_is_named(
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  crash = 'import faulthandler, os; faulthandler.enable(); os.abort()'
  monkeypatch.setattr(restarts, 'POLICIES', {'learner': restarts.Policy(restarts=0)})
  assert _supervise(tmp_path, {'learner': crash}) == supervisor.FAILED
  output = capsys.readouterr().out
  assert 'learner-0 was ended by SIGABRT, 1 times in 600 s; the end of' in output
  assert 'Fatal Python error: Aborted' in output


def test_events_are_json_lines(tmp_path: pathlib.Path) -> None:
  assert _supervise(tmp_path, {'learner': ''}) == supervisor.DONE
  lines = (tmp_path / 'events.jsonl').read_text().splitlines()
  assert [json.loads(line)['event'] for line in lines] == [
    'launch',
    'start',
    'exit',
    'end',
  ]


class Interpreters:
  """In place of a nursery: nodes that run some code each."""

  pid = 0

  def __init__(self, code: dict[str, str]) -> None:
    self.code = code

  def ready(self) -> bool:
    return True

  def start(self, role: str, index: int, output: BinaryIO) -> subprocess.Popen[bytes]:
    del index
    command = [sys.executable, '-c', self.code[role]]
    return subprocess.Popen(
      command, stdout=output, stderr=output, start_new_session=True
    )


def _supervise(
  run_dir: pathlib.Path, code: dict[str, str], signals: list[int] | None = None
) -> int:
  nodes = [supervisor.Node(role, 0, role == 'replay') for role in code]
  nursery: Any = Interpreters(code)
  return supervisor.Supervisor(run_dir, config.Config(), nodes, nursery, signals).run()


def test_signal_that_came_before_the_nodes_stops_the_run(
  tmp_path: pathlib.Path,
) -> None:
  code = {'learner': 'import time; time.sleep(600)'}
  assert _supervise(tmp_path, code, [signal.SIGTERM]) == 128 + signal.SIGTERM


def test_full_disk_is_said_once_and_so_is_room(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  nursery: Any = None
  run = supervisor.Supervisor(tmp_path, config.Config(), [], nursery)
  for free in (5_000_000, 0, 65_536, 1_500_000, 5_000_000, 1_500_000):
    usage = types.SimpleNamespace(free=free)
    monkeypatch.setattr(disk.shutil, 'disk_usage', lambda path, u=usage: u)
    run._tell_full_disk()
  said = ' '.join(capsys.readouterr().out.split())
  full = f'{tmp_path}: No space left on device (0.0 MB are free); until there is room'
  assert said.startswith(full)
  assert said.count('No space left') == said.count('there is room again') == 1
