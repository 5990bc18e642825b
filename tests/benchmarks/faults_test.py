import pathlib

import pytest

from benchmarks import faults


def _fault(fault: str, recovered: bool, seconds: float, lost: int) -> faults.Fault:
  return faults.Fault(1, fault, recovered, seconds, lost, 2 * lost, 3 * lost)


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
    ['learner-0', '2/3', '12.0', '30.0', '1,000', '2,000', '3,000'],
    ['disk', 'full', '1/1', '7.0', '7.0', '0', '0', '0'],
  ]


def test_folder_that_holds_something_is_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='is not empty; expected a new folder'):
    faults.main(faults.Arguments(output_dir=str(tmp_path)))
