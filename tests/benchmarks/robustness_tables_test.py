"""Tests of benchmarks.robustness_tables, on made-up results."""

import math
import pathlib

import pandas as pd

from benchmarks import readme
from benchmarks import robustness
from benchmarks import robustness_tables
from tests.benchmarks import conftest


def test_robustness_pools_seeds_and_says_how_many(tmp_path: pathlib.Path) -> None:
  for columns in robustness_tables.COLUMNS:
    for name, (disturbance, strength) in columns.items():
      known = (*robustness.SWEEPS.get(disturbance, ()), 0.0)
      assert strength in known, name
  undisturbed = {'disturbance': 'none', 'strength': 0.0}
  noisy = {'disturbance': 'action_noise', 'strength': 0.2}
  half = conftest.rows('metamimic', [0.5, 0.5])
  half.loc[half['seed'] == 1, 'solved'] = math.nan
  rows = [
    conftest.rows('metamimic', [0.5, 0.5]).assign(**undisturbed),
    half.assign(**noisy),
    conftest.rows('replay', [1.0]).assign(**undisturbed),
    conftest.rows('replay', [1.0], math.nan).iloc[:2].assign(**noisy),
    conftest.rows('zero', [0.1]).assign(**undisturbed),
  ]
  path = tmp_path / 'robustness_lift_brick.csv'
  pd.concat(rows).to_csv(path, index=False)
  (table,) = robustness_tables.table(path)
  mimic, replay = conftest.texts(table)
  assert (mimic['undisturbed'], mimic['action noise .2']) == ('1.00', '0.50')
  assert 'action noise .4' not in mimic
  assert mimic['N (seeds × starts)'] == '2 × 4'
  assert (replay['action noise .2'], replay['N (seeds × starts)']) == (
    '0.00',
    '1 × 2 to 1 × 4',
  )
  half.assign(disturbance='mass', strength=4.0).to_csv(
    path, index=False, header=False, mode='a', columns=list(pd.read_csv(path).columns)
  )
  first, second = robustness_tables.table(path)
  assert first == table
  (heavy,) = conftest.texts(second)
  assert heavy == {
    'arm': 'MetaMimic',
    'mass × 4': '0.50',
    'learner steps': heavy['learner steps'],
    'N (seeds × starts)': '2 × 4',
  }
  section = next(s for s in readme.SECTIONS if s.name == 'robustness')
  assert '.svg' not in readme.render(section, tmp_path)
  path.with_suffix('.svg').write_text('<svg/>')
  assert readme.render(section, tmp_path).endswith(
    'on lift_brick](../results/robustness_lift_brick.svg)'
  )
