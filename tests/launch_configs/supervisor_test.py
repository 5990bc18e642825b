import json
import os
import pathlib
import signal
import sys
from typing import Any

import pytest

from launch_configs import supervisor
from metamimic import config

NODES = {'replay-0', 'learner-0', 'evaluator-0', 'actor-0'}


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
  assert 'actor-0 left with exit status 1; the end of' in output
  assert 'Traceback (most recent call last):' in output
  assert "raise ValueError('the brick is gone')" in output
  assert "actor-0 failed: ValueError('the brick is gone')" in output
  assert run.nothing_left()


@pytest.mark.parametrize('node', ['replay-0', 'learner-0', 'evaluator-0', 'actor-0'])
def test_killed_node_fails_the_run_by_name(launch: Any, node: str) -> None:
  run = launch(dict.fromkeys(NODES - {'replay-0'}, 'wait'))
  run.wait_until_works(*NODES)
  os.kill(run.pids()[node], signal.SIGKILL)
  status, output = run.finish()
  assert status == 1
  assert f'{node} was ended by SIGKILL (out of memory?); the end of' in output
  others = [n for n in NODES - {node} if f'{n} was ended' in output]
  assert others == []
  assert run.nothing_left()


def test_node_told_to_leave_by_somebody_else_is_a_failure(launch: Any) -> None:
  run = launch(dict.fromkeys(NODES - {'replay-0'}, 'wait'))
  run.wait_until_works(*NODES)
  os.kill(run.pids()['learner-0'], signal.SIGTERM)
  status, output = run.finish()
  assert status == 1
  assert 'learner-0 left with exit status 143' in output


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
  run = launch(dict.fromkeys(NODES - {'replay-0'}, 'wait'))
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
  run = launch(dict.fromkeys(NODES - {'replay-0'}, 'wait') | {'learner-0': 'deaf'})
  run.wait_until_works(*NODES)
  run.signal(signal.SIGKILL)
  assert run.finish()[0] == -signal.SIGKILL
  wait_until(run.nothing_left)


def test_children_of_a_killed_node_are_ended(launch: Any, alive: Any) -> None:
  run = launch(dict.fromkeys(NODES - {'replay-0'}, 'wait') | {'actor-0': 'child'})
  run.wait_until_works(*NODES)
  child = run.dir / 'child'
  while not child.exists() or not child.read_text():
    pass
  assert alive(int(child.read_text()))
  os.kill(run.pids()['actor-0'], signal.SIGKILL)
  assert run.finish()[0] == 1
  assert not alive(int(child.read_text()))


@pytest.mark.parametrize(
  ('behaviours', 'reason'),
  [
    ({'learner-0': 'wait'}, 'replay holds 0 of the 200 transitions it begins with'),
    ({'replay-0': 'wait'}, 'replay-0 does not serve yet, see '),
  ],
)
def test_stalled_run_says_on_what_it_waits(
  launch: Any, behaviours: dict[str, str], reason: str
) -> None:
  waiting = dict.fromkeys(NODES - {'replay-0'}, 'wait')
  run = launch(waiting | behaviours, '--stall-warning', '0.5')
  lines = iter(run.process.stdout.readline, '')
  warning = next(line for line in lines if reason in line)
  assert warning.startswith('no progress of the learner for ')
  assert 'running: replay-0 learner-0 evaluator-0 actor-0' in warning
  run.signal(signal.SIGTERM)
  assert run.finish()[0] == 143


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
  assert supervisor.last_words(log, start) == '(the log is empty)'
  with open(log, 'a') as f:
    f.write(''.join(f'line {i}\n' for i in range(30)))
  assert supervisor.last_words(log, start) == '\n'.join(
    f'line {i}' for i in range(10, 30)
  )
  with open(log, 'a') as f:
    f.write('Traceback (most recent call last):\n  here\nOSError: new\nactor-0 failed')
  assert supervisor.last_words(log, start) == (
    'Traceback (most recent call last):\n  here\nOSError: new\nactor-0 failed'
  )


def test_server_that_leaves_fails_the_run(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  nodes = [
    _node('replay', 'print("bye")', serves=True),
    _node('learner', 'import time; time.sleep(60)'),
  ]
  assert _supervise(tmp_path, nodes) == supervisor.FAILED
  output = capsys.readouterr().out
  assert 'replay-0 left with exit status 0; the end of' in output
  assert output.splitlines()[-1] == 'bye'


def test_native_crash_is_named(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  crash = 'import faulthandler, os; faulthandler.enable(); os.abort()'
  assert _supervise(tmp_path, [_node('learner', crash)]) == supervisor.FAILED
  output = capsys.readouterr().out
  assert 'learner-0 was ended by SIGABRT; the end of' in output
  assert 'Fatal Python error: Aborted' in output


def test_events_are_json_lines(tmp_path: pathlib.Path) -> None:
  assert _supervise(tmp_path, [_node('learner', '')]) == supervisor.DONE
  lines = (tmp_path / 'events.jsonl').read_text().splitlines()
  assert [json.loads(line)['event'] for line in lines] == [
    'launch',
    'start',
    'exit',
    'end',
  ]


def _node(role: str, code: str, serves: bool = False) -> supervisor.Node:
  return supervisor.Node(role, 0, serves, [sys.executable, '-c', code])


def _supervise(run_dir: pathlib.Path, nodes: list[supervisor.Node]) -> int:
  run = supervisor.Supervisor(run_dir, config.Config(), nodes, os.environ)

  return run.run()
