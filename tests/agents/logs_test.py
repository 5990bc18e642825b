"""Tests of agents.logs."""

import csv
import pathlib
import types

import psutil
import pytest
import tensorflow as tf

from agents import logs


def test_clock_is_due_once_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
  now = [100.0]
  monkeypatch.setattr(logs.time, 'monotonic', lambda: now[0])
  clock = logs.Clock(10)
  seen = []
  for now[0] in (105, 110, 112, 119, 125):
    seen.append(clock.due())
  assert seen == [0, 10, 0, 0, 15]
  now[0] = 126
  assert clock.due(at_once=True) == 1
  now[0] = 135
  assert clock.due() == 0
  assert logs.Clock(10, at_once=True).due() == 10
  clock = logs.Clock(10)
  now[0] = 149
  assert clock.due(period=15) == 0
  now[0] = 150
  assert clock.due(period=15) == 15


def test_a_resumed_role_goes_on_in_its_file(tmp_path: pathlib.Path) -> None:
  found = []
  for step in (1, 2):
    logger = logs.RoleLogger(str(tmp_path), 'learner', step='learner_steps')
    found.append(logger.last.get('learner_steps'))
    logger.write({'learner_steps': step, 'loss': 1 / 3, 'arm': 'none'})
    logger.close()
  assert found == [None, '1']
  with open(tmp_path / 'logs' / 'learner.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  assert [(r['learner_steps'], r['loss'], r['arm']) for r in rows] == [
    ('1', '0.333333', 'none'),
    ('2', '0.333333', 'none'),
  ]
  assert float(rows[0]['wall_time']) <= float(rows[1]['wall_time'])
  scalars = []
  for path in sorted((tmp_path / 'tensorboard' / 'learner').iterdir()):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        scalars.append((event.step, value.tag))
        assert tf.make_ndarray(value.tensor) == pytest.approx(1 / 3)
  assert scalars == [(1, 'loss'), (2, 'loss')]


def test_a_row_is_in_the_file_at_once(tmp_path: pathlib.Path) -> None:
  logger = logs.RoleLogger(str(tmp_path), 'evaluator')
  logger.write({'arm': 'zero'})
  assert (tmp_path / 'logs' / 'evaluator.csv').read_text().endswith(',zero\n')
  assert not (tmp_path / 'tensorboard').exists()
  logger.close()


def test_line_within_which_a_process_died_is_removed(tmp_path: pathlib.Path) -> None:
  logger = logs.RoleLogger(str(tmp_path), 'actor-0')
  logger.write({'environment_steps': 10})
  logger.close()
  path = tmp_path / 'logs' / 'actor-0.csv'
  whole = path.read_text()
  path.write_text(whole + '17.2')
  again = logs.RoleLogger(str(tmp_path), 'actor-0')
  assert again.last['environment_steps'] == '10'
  assert path.read_text() == whole
  again.close()


def test_full_disk_costs_rows_and_not_the_run(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  logger = logs.RoleLogger(str(tmp_path), 'actor-0', step='environment_steps')
  logger.write({'environment_steps': 10})
  refused: list[bool] = []

  def full() -> None:
    refused.append(True)
    raise OSError('No space left on device')

  with monkeypatch.context() as patched:
    patched.setattr(logger, '_file', types.SimpleNamespace(flush=full))
    logger.write({'environment_steps': 20})
  logger.write({'environment_steps': 30})
  logger.close()
  assert refused == [True]
  lines = (tmp_path / 'logs' / 'actor-0.csv').read_text().splitlines()
  steps = [line.rpartition(',')[2] for line in lines]
  assert (steps[0], steps[1], steps[-1]) == ('environment_steps', '10', '30')


def test_rows_take_no_memory_once_they_are_written(tmp_path: pathlib.Path) -> None:
  logger = logs.RoleLogger(str(tmp_path), 'actor-0', step='environment_steps')
  process = psutil.Process()

  def write(first: int, count: int) -> int:
    for step in range(first, first + count):
      logger.write({'environment_steps': step, 'reward': step / 7, 'length': step / 3})
    return process.memory_info().rss

  warm = write(0, 500)
  # Kept, they would take more than twice that.
  assert write(500, 3000) - warm < 3000 * 1300
