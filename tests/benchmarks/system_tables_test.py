import pathlib

import pandas as pd
import pytest

from benchmarks import fault_curves
from benchmarks import system_tables
from benchmarks import tables


def _texts(found: list[tables.Table]) -> list[list[str]]:
  (table,) = found
  return [[cell.text for cell in row] for row in table.rows]


def test_without_files_there_are_no_tables(tmp_path: pathlib.Path) -> None:
  for make in (system_tables.faults, system_tables.curves, system_tables.memory):
    assert make(tmp_path) == []
  assert system_tables.speed(tmp_path) == system_tables.profile(tmp_path) == []


def test_what_presets_get_done_and_what_they_are_at(tmp_path: pathlib.Path) -> None:
  rows = [
    ('laptop', 'actor-0', 'physics', 0.251, 10.0),
    ('laptop', 'actor-0', 'writing', 0.744, 10.0),
    ('laptop', 'actor-0', 'reward', 0.005, 10.0),
    ('laptop', 'learner-0', 'updates', 1.0, 30.0),
    ('laptop', 'replay-0', 'else', 1.0, 40.0),
  ]
  columns = ['setting', 'process', 'part', 'share', 'cpu_seconds']
  frame = pd.DataFrame(rows, columns=columns)
  frame = frame.assign(seconds=10.0, learner_steps=1500, environment_steps=30_000)
  frame.to_csv(tmp_path / 'benchmark_profiling.csv', index=False)
  done, doing = system_tables.profile(tmp_path)
  assert [cell.text for cell in done.rows[0]] == [
    *('laptop', '150', '3,000', '50', '3,000'),
    *('0.12', '0.38', '0.00', '0.50'),
  ]
  assert [[cell.text for cell in row] for row in doing.rows] == [
    ['laptop', 'actor-0', 'writing 0.74, physics 0.25'],
    ['laptop', 'learner-0', 'updates 1.00'],
  ]


def test_faults_by_kind(tmp_path: pathlib.Path) -> None:
  columns = ['fault', 'recovered', 'seconds', 'learner_steps_lost']
  rows = [
    ('replay-0', True, 2.0, 0, 100),
    ('learner-0', True, 8.0, 500, 0),
    ('learner-0', False, 300.0, 1500, 0),
    ('learner-0', True, 10.0, 1000, 7),
  ]
  frame = pd.DataFrame(rows, columns=[*columns, 'environment_steps_lost'])
  frame.to_csv(tmp_path / 'faults.csv', index=False)
  found = system_tables.faults(tmp_path)
  assert _texts(found) == [
    ['learner-0', '2 of 3', '10.0', '300.0', '1,000', '1,500', '0', '7'],
    ['replay-0', '1 of 1', '2.0', '2.0', '0', '0', '100', '100'],
  ]
  assert found[0].header[2:4] == ('seconds, median', 'seconds, most')
  source = 'results/faults.csv, fault=learner-0: median of seconds'
  assert found[0].rows[0][2].source == source


def test_disturbed_runs_stand_beside_what_is_expected(tmp_path: pathlib.Path) -> None:
  ends = {(0, 0): 0.8, (1, 0): 0.9, (5, 12): 0.85}
  rows = [
    (seed, kills, steps, reward)
    for (seed, kills), end in ends.items()
    for steps, reward in ((0, 0.1), (100, end))
  ]
  columns = ['seed', 'kills', 'learner_steps', 'reward']
  frame = pd.DataFrame(rows, columns=columns)
  frame.to_csv(tmp_path / 'fault_curves.csv', index=False)
  low, high = fault_curves.expected([0.8, 0.9])
  expected, disturbed = _texts(system_tables.curves(tmp_path))
  words = 'expected, of 2 undisturbed ones'
  assert expected[:3] == [words, '0', f'{low:.3f}–{high:.3f}']
  assert disturbed == ['seed 5', '12', '0.850', '0.475']


def test_memory_of_each_process(tmp_path: pathlib.Path) -> None:
  rows = [
    (seconds, 'actor-0', 7, 100 + seconds / 3600, 5, 3)
    for seconds in range(0, 7201, 60)
  ]
  columns = ['seconds', 'process', 'pid', 'memory', 'files', 'threads']
  pd.DataFrame(rows, columns=columns).to_csv(tmp_path / 'soak.csv', index=False)
  (row,) = _texts(system_tables.memory(tmp_path))
  # 1 MB an hour, of 101.5.
  assert row[:1] + row[2:] == ['actor-0', '+1.0', '+0', '+0', '2.00']
  assert float(row[1]) == pytest.approx(101.5, abs=0.51)
