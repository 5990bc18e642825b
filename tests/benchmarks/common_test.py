"""Tests of benchmarks.common."""

import csv
import functools
import pathlib

import pytest

from benchmarks import common


def _measurements(**rates: list[float]) -> list[common.Measurement]:
  return [
    common.Measurement(number, arm, 2 * rate, 2.0)
    for arm, values in rates.items()
    for number, rate in enumerate(values)
  ]


def test_ratios_are_taken_within_rounds() -> None:
  # The machine slows down: the arms' medians are of different rounds.
  measurements = _measurements(ours=[40, 20, 6], acme=[20, 5, 2])
  assert common.medians(measurements) == {'ours': 20, 'acme': 5}
  assert common.ratio(measurements, 'ours', 'acme') == 3


def test_the_first_turn_of_each_arm_does_not_count(
  capsys: pytest.CaptureFixture[str],
) -> None:
  turns = {
    'a': iter([(1.0, 9.0), (6.0, 2.0), (8.0, 2.0)]),
    'b': iter([(1.0, 9.0), (3.0, 1.0), (5.0, 1.0)]),
  }
  arms = {name: functools.partial(next, values) for name, values in turns.items()}
  measurements = common.measure(arms, 2)
  assert [(m.round, m.arm, m.rate) for m in measurements] == [
    (1, 'a', 3),
    (1, 'b', 3),
    (2, 'a', 4),
    (2, 'b', 5),
  ]
  assert capsys.readouterr().out.splitlines()[-1] == 'round 2: b 5.0'


def test_a_missed_bar_is_said_and_is_the_exit_status(
  capsys: pytest.CaptureFixture[str],
) -> None:
  reached = common.Bar('a', 1.2, 1.2)
  missed = common.Bar('b', 1.19, 1.2)
  bound = common.Bar('c', 10, 10, is_lower_bound=True)
  assert common.report([reached, bound]) == 0
  assert common.report([reached, missed]) == 1
  assert capsys.readouterr().out.splitlines() == [
    'a: 1.20 (bar 1.2: reached)',
    'c: at least 10.00 (bar 10: reached)',
    'a: 1.20 (bar 1.2: reached)',
    'b: 1.19 (bar 1.2: MISSED)',
  ]


def test_results_name_the_machine(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'results' / 'x.csv'
  common.write(str(path), common.rows(_measurements(ours=[3])))
  with open(path, newline='') as f:
    (row,) = csv.DictReader(f)
  assert (row['arm'], row['amount'], row['per_cpu_second']) == ('ours', '6', '3.00')
  assert row['numpy'] == common.machine()['numpy']
  assert int(row['cores']) >= 1
  assert row['cpu']
  assert not (tmp_path / 'results' / 'x.csv.tmp').exists()


def test_scaling_is_the_median_of_the_rounds_ratios() -> None:
  rates = {
    (1, 1): (100.0, 50.0, 80.0),
    (1, 2): (1.0, 1.0, 1.0),
    (2, 2): (180.0, 100.0, 120.0),
    (4, 2): (1.0, 1.0, 1.0),
  }
  rows = [
    {
      'round': number,
      'actors': str(actors),
      'cores_given': str(cores),
      'per_second': str(rate),
    }
    for (actors, cores), values in rates.items()
    for number, rate in enumerate(values)
  ]
  bar = common.scaling(rows)
  assert (bar.ratio, bar.bar) == (1.8, 1.8)
