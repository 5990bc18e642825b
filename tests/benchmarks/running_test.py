import json
import pathlib

import pytest

from benchmarks import running


def _run(run_dir: pathlib.Path) -> running.Run:
  return running.Run(run_dir, 'tiny', 'data/faults.hdf5', patience=1.0)


def test_rows_of_the_learner_count_from_a_time_on(tmp_path: pathlib.Path) -> None:
  run = _run(tmp_path / 'run')
  assert run.rows(0.0) == []
  (run.dir / 'logs').mkdir(parents=True)
  log = run.dir / 'logs' / 'learner-imitation.csv'
  log.write_text('wall_time,learner_steps\n1.5,10\n2.5,20\n')
  assert [row['learner_steps'] for row in run.rows(1.5)] == ['20']


def test_newest_process_of_a_node_counts(tmp_path: pathlib.Path) -> None:
  run = _run(tmp_path)
  events = [{'event': 'start', 'node': 'actor-0', 'pid': pid} for pid in (1, 2)]
  events.append({'event': 'exit', 'node': 'actor-0'})
  lines = ''.join(json.dumps(event) + '\n' for event in events)
  (tmp_path / 'events.jsonl').write_text(lines)
  assert run.pids() == {'actor-0': 2}
  assert run.ended


def test_only_a_folder_that_holds_nothing_is_new(tmp_path: pathlib.Path) -> None:
  assert running.new_folder(str(tmp_path / 'a' / 'b')).is_dir()
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='is not empty; expected a new folder'):
    running.new_folder(str(tmp_path))
