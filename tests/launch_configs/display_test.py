import errno
import io
import os
import pathlib
import time
from typing import Any, NoReturn

import pytest
import rich.console

from launch_configs import display
from metamimic import config

LEARNER = 'wall_time,learner_steps,environment_steps,replay_size\n'
EVALUATOR = 'wall_time,learner_steps,arm,split,episodes,reward,completed,success\n'


@pytest.fixture(name='logs')
def logs_fixture(tmp_path: pathlib.Path) -> pathlib.Path:
  (tmp_path / 'logs').mkdir()
  return tmp_path / 'logs'


def test_csv_is_read_piece_by_piece(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'x.csv'
  tail = display.CsvTail(path)
  assert tail.read() == []
  path.write_text('wall_time,a\n1,2\n3,')
  assert tail.read() == [{'wall_time': '1', 'a': '2'}]
  assert tail.read() == []
  with open(path, 'a') as f:
    f.write('4\nwall_time,b\n5,6\n')
  assert tail.read() == [{'wall_time': '3', 'a': '4'}, {'wall_time': '5', 'b': '6'}]


def test_file_that_cannot_be_read_for_a_while_is_read_later(
  logs: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def stale(*unused: Any, **also: Any) -> NoReturn:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

  progress = display.Progress(logs.parent, config.Config(learner_steps=1000))
  _write(logs)
  notices = logs.parent / 'notices'
  notices.write_text('old\n')
  with monkeypatch.context() as patch:
    for module, name in ((pathlib.Path, 'stat'), (pathlib.Path, 'glob')):
      patch.setattr(module, name, stale)
    patch.setattr(display, 'open', stale, raising=False)
    progress.update()
    tail = display.LineTail(notices, new=True)
    assert tail.read() == []
  assert progress.learners['imitation'].steps == progress.environment_steps == 0
  progress.update()
  assert progress.learners['imitation'].steps == 500
  assert progress.environment_steps == 1234


def test_progress_and_time_left(logs: pathlib.Path) -> None:
  progress = display.Progress(logs.parent, config.Config(learner_steps=1000))
  assert progress.left is None
  now = time.time() + 1
  (logs / 'learner-imitation.csv').write_text(
    LEARNER
    + f'{now - 1000},50,1,1\n'  # Of an earlier launch: it tells nothing of the rate.
    + f'{now},100,300,200\n{now + 10},400,900,800\n'
  )
  progress.update()
  learner = progress.learners['imitation']
  assert (learner.steps, learner.last_step) == (400, 1000)
  assert learner.rate == pytest.approx(30)
  assert progress.left == pytest.approx(20)
  assert progress.replay_size == 800


def test_run_takes_as_long_as_the_slower_learner(logs: pathlib.Path) -> None:
  progress = display.Progress(logs.parent, _BOTH)
  now = time.time() + 1
  (logs / 'learner-imitation.csv').write_text(
    f'{LEARNER}{now},100,300,200\n{now + 10},400,900,800\n'
  )
  progress.update()
  assert progress.left is None
  (logs / 'learner-task.csv').write_text(
    f'{LEARNER}{now},100,300,900\n{now + 10},200,900,950\n'
  )
  progress.update()
  # 600 steps left at 30 a second, and 1800 at 10.
  assert progress.left == pytest.approx(180)
  assert progress.replay_size == 950


def test_environment_steps_are_those_of_all_actors(logs: pathlib.Path) -> None:
  progress = display.Progress(logs.parent, _BOTH)
  now = time.time()
  # The second, which was not there from the start, has left: its last row is old.
  for index, written in ((0, now), (7, now - 60)):
    (logs / f'actor-{index}.csv').write_text(
      f'wall_time,environment_steps,steps_per_second\n1,10,5\n{written},30,7\n'
    )
  progress.update()
  assert (progress.environment_steps, progress.environment_rate) == (60, 7)


_BOTH = config.Config(
  learner_steps=1000, task=config.TaskConfig(learn=True, learner_steps=2000)
)


def _settings(algorithm: str = 'metamimic') -> config.Config:
  return config.from_dict(
    {**config.to_dict(config.Config(learner_steps=1000)), 'algorithm': algorithm}
  )


def _write(logs: pathlib.Path) -> None:
  (logs / 'learner-imitation.csv').write_text(f'{LEARNER}1,500,1234,1200\n')
  (logs / 'actor-0.csv').write_text(
    'wall_time,environment_steps,steps_per_second\n1,1234,9\n'
  )
  (logs / 'evaluator.csv').write_text(
    EVALUATOR
    + '1,400,metamimic,valid,2,0.1,0.1,0\n'
    + '1,0,zero,valid,2,0.25,0.1,0\n1,0,replay,valid,2,0.875,1,1\n'
    + '1,500,metamimic,train,2,0.75,0.8,1\n1,500,metamimic,valid,2,0.625,0.5,1\n'
  )


def test_lines_where_there_is_no_terminal(
  logs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  settings = _settings()
  shown = display.Display(display.Progress(logs.parent, settings), settings)
  _write(logs)
  with shown.shown():
    shown.update(['learner-0'])
    assert capsys.readouterr().out == ''
    shown.update(['replay-0', 'learner-0'], last=True)
  assert capsys.readouterr().out == (
    '0:00:00 | learner 500/1,000 (0/s) | environment 1,234 (0/s) | replay 1,200 | '
    'imitation reward (floor to ceiling) training 0.750 (– to –), '
    'held-out 0.625 (0.250 to 0.875) | completed 0.500 | time left: not known yet\n'
  )


def test_table_on_a_terminal(logs: pathlib.Path) -> None:
  settings = _settings()
  screen = io.StringIO()
  console = rich.console.Console(file=screen, force_terminal=True, width=100)
  shown = display.Display(display.Progress(logs.parent, settings), settings, console)
  _write(logs)
  with shown.shown():
    shown.say('a [message] of a node')
    shown.update(['replay-0', 'learner-0'])
  text = screen.getvalue()
  for expected in ('500 of 1,000', 'replay-0 learner-0', '0.625', '0.875', '0.250'):
    assert expected in text
  assert 'a [message] of a node' in text


def test_line_of_two_learners(logs: pathlib.Path) -> None:
  progress = display.Progress(logs.parent, _BOTH)
  _write(logs)
  (logs / 'learner-task.csv').write_text(f'{LEARNER}1,250,1234,1300\n')
  with open(logs / 'evaluator.csv', 'a') as f:
    f.write('1,250,task_policy,train,2,nan,nan,0.75\n')
    f.write('1,250,task_policy,valid,2,nan,nan,0.5\n')
  progress.update()
  assert display.Display(progress, _BOTH).line(['learner-1']) == (
    '0:00:00 | imitation learner 500/1,000 (0/s) | task learner 250/2,000 (0/s) | '
    'environment 1,234 (0/s) | replay 1,300 | imitation reward (floor to ceiling) '
    'training 0.750 (– to –), held-out 0.625 (0.250 to 0.875) | completed 0.500 | '
    'task success from training starts 0.750, held-out 0.500 | '
    'time left: not known yet'
  )


def test_line_of_a_dense_reward_has_the_return(logs: pathlib.Path) -> None:
  task = config.TaskConfig(reward='dense', learner_steps=2000)
  settings = config.Config(algorithm='d4pg', task=task)
  (logs / 'evaluator.csv').write_text(
    f'{EVALUATOR.strip()},return\n'
    '1,250,d4pg,train,2,nan,nan,0.75,120.5\n'
    '1,250,d4pg,valid,2,nan,nan,0.5,99\n'
  )
  progress = display.Progress(logs.parent, settings)
  progress.update()
  line = display.Display(progress, settings).line(['learner-0'])
  assert ' | task return from training starts 120.500, held-out 99.000 | ' in line


def test_table_of_two_learners(logs: pathlib.Path) -> None:
  screen = io.StringIO()
  console = rich.console.Console(file=screen, force_terminal=True, width=100)
  shown = display.Display(display.Progress(logs.parent, _BOTH), _BOTH, console)
  _write(logs)
  with open(logs / 'evaluator.csv', 'a') as f:
    f.write('1,250,task_policy,valid,2,nan,nan,0.5\n')
  with shown.shown():
    shown.update(['learner-0', 'learner-1'])
  lines = screen.getvalue().splitlines()
  assert any('task learner steps' in line and '0 of 2,000' in line for line in lines)
  policies = [line.split()[1:] for line in lines if 'policy: ' in line][-2:]
  assert [line[0] for line in policies] == ['metamimic', 'task_policy']
  assert policies[1][1:] == ['–', '–', '–', '0.500', '250']


def test_behavioural_cloning_has_no_environment_columns(
  logs: pathlib.Path,
) -> None:
  settings = _settings('bc')
  progress = display.Progress(logs.parent, settings)
  (logs / 'learner-cloning.csv').write_text('wall_time,learner_steps,loss\n1,1000,.5\n')
  progress.update()
  line = display.Display(progress, settings).line(['evaluator-0'])
  assert line == (
    '0:00:00 | learner 1,000/1,000 (0/s) | learner done; running: evaluator-0'
  )


def test_clock() -> None:
  assert [display.clock(s) for s in (0, 59.9, 61, 36_061)] == [
    '0:00:00',
    '0:00:59',
    '0:01:01',
    '10:01:01',
  ]


class _FullDisk(io.StringIO):
  refused = 0

  def write(self, text: str) -> int:
    self.refused += 1
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('terminal', [False, True])
def test_full_disk_under_the_output_is_no_error(
  tmp_path: pathlib.Path, terminal: bool
) -> None:
  full = _FullDisk()
  console = rich.console.Console(file=full, force_terminal=terminal)
  settings = config.Config()
  shown = display.Display(display.Progress(tmp_path, settings), settings, console)
  shown.say('the disk is full')
  said = full.refused
  shown.update(['learner-0'], last=True)
  assert full.refused > said > 0
