import json
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


def test_rows_of_the_learner_count_from_a_time_on(tmp_path: pathlib.Path) -> None:
  run = faults.Run(tmp_path / 'run', faults.Arguments())
  assert run.rows(0.0) == []
  (run.dir / 'logs').mkdir(parents=True)
  log = run.dir / 'logs' / 'learner-imitation.csv'
  log.write_text('wall_time,learner_steps\n1.5,10\n2.5,20\n')
  assert [row['learner_steps'] for row in run.rows(1.5)] == ['20']


def test_newest_process_of_a_node_counts(tmp_path: pathlib.Path) -> None:
  run = faults.Run(tmp_path, faults.Arguments())
  events = [{'event': 'start', 'node': 'actor-0', 'pid': pid} for pid in (1, 2)]
  events.append({'event': 'exit', 'node': 'actor-0'})
  lines = ''.join(json.dumps(event) + '\n' for event in events)
  (tmp_path / 'events.jsonl').write_text(lines)
  assert run.pids() == {'actor-0': 2}
  assert run.ended


def test_folder_that_holds_something_is_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='is not empty; expected a new folder'):
    faults.main(faults.Arguments(output_dir=str(tmp_path)))
