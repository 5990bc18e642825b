from collections.abc import Callable
import pathlib
import time
from typing import Any, cast

import pytest

from benchmarks import faults
from benchmarks import running
from metamimic import checkpoints


def _fault(fault: str, recovered: bool, seconds: float, lost: int) -> faults.Fault:
  return faults.Fault(1, fault, recovered, seconds, lost, 2 * lost)


def test_table_has_a_line_for_each_kind_of_fault() -> None:
  found = [
    _fault('learner-0', True, 10.0, 500),
    _fault('disk full', True, 7.0, 0),
    _fault('learner-0', False, 30.0, 0),
    _fault('learner-0', True, 12.0, 1000),
  ]
  header, *lines = faults.table(found).splitlines()
  assert header.split()[:2] == ['fault', 'recovered']
  assert [line.split() for line in lines] == [
    ['learner-0', '2/3', '12.0', '30.0', '1,000', '2,000'],
    ['disk', 'full', '1/1', '7.0', '7.0', '0', '0'],
  ]


_SET = checkpoints.CheckpointSet(
  pathlib.Path('7'),
  learner_steps={running.LEARNER: 1000, 'another': 9},
  environment_steps={'imitation': 300, 'task': 50},
  seconds=0.1,
  replay_seconds=0.1,
  time=1.0,
  files={},
)


@pytest.mark.parametrize(
  ('fault', 'restored', 'expected'),
  [
    ('actor-0', None, (0, 0)),
    ('learner-0', _SET, (234, 0)),
    ('replay-0', _SET, (0, 78)),
    ('launcher SIGKILL', _SET, (234, 78)),
    ('newest set truncated', _SET, (234, 78)),
  ],
)
def test_what_is_lost_is_what_the_set_does_not_have(
  fault: str, restored: checkpoints.CheckpointSet | None, expected: tuple[int, int]
) -> None:
  before = {'learner_steps': '1234', 'environment_steps': '428', 'wall_time': '3.5'}
  assert faults.lost(before, restored, fault) == expected


def test_a_set_that_is_newer_than_the_last_row_has_lost_nothing() -> None:
  before = {'learner_steps': '990', 'environment_steps': '340'}
  assert faults.lost(before, _SET, 'launcher SIGTERM') == (0, 0)


class _Run:
  """A run that goes on from `_SET`, and has done some of it again at its next row."""

  dir = pathlib.Path('nowhere')

  def __init__(self) -> None:
    self._rows = [
      {'learner_steps': '1234', 'environment_steps': '428', 'wall_time': '1'}
    ]

  def rows(self, since: float) -> list[dict[str, str]]:
    return [row for row in self._rows if float(row['wall_time']) >= since]

  def wait(self, condition: Callable[[], object]) -> bool:
    return bool(condition())

  def fail(self) -> checkpoints.CheckpointSet:
    later = str(time.time() + 2)
    self._rows.append(
      {'learner_steps': '1300', 'environment_steps': '500', 'wall_time': later}
    )
    return _SET


def test_what_was_done_again_before_the_next_row_was_lost_too() -> None:
  run = _Run()
  found = faults._outcome(cast(Any, run), 3, 'launcher SIGKILL', run.fail, time.time)
  assert found.recovered and 1.5 < found.seconds < 2.5
  assert (found.learner_steps_lost, found.environment_steps_lost) == (234, 78)


def test_folder_that_holds_something_is_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='is not empty; expected a new folder'):
    faults.main(faults.Arguments(output_dir=str(tmp_path)))
