import pathlib
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import fault_curves


def test_curve_is_of_the_policy_on_held_out_demonstrations(
  tmp_path: pathlib.Path,
) -> None:
  rows = [
    ('metamimic', 'valid', 0, 0.1),
    ('metamimic', 'valid', 0, 0.3),
    ('metamimic', 'train', 0, 0.9),
    ('tracker', 'valid', 0, 0.8),
    ('metamimic', 'valid', 500, 0.6),
  ]
  columns = ['arm', 'split', 'learner_steps', 'total']
  pd.DataFrame(rows, columns=columns).to_csv(tmp_path / 'evaluation.csv')
  found = fault_curves.curve(tmp_path)
  assert found.to_dict() == {0: pytest.approx(0.2), 500: pytest.approx(0.6)}


def test_mean_over_a_curve_is_by_learner_steps() -> None:
  rewards = pd.Series([0.0, 1.0, 1.0], index=[0, 100, 400])
  last, mean = fault_curves.summary(rewards)
  assert last == 1.0
  assert mean == pytest.approx(0.875)


def test_one_in_twenty_values_is_beyond_what_is_expected() -> None:
  rng = np.random.default_rng(0)
  beyond = 0
  for _ in range(4000):
    *known, new = rng.normal(3.0, 2.0, size=5)
    low, high = fault_curves.expected(known)
    beyond += not low <= new <= high
  # A binomial test, so that its threshold is no choice of ours.
  assert stats.binomtest(beyond, 4000, 0.05).pvalue > 0.01


def test_run_that_was_set_back_is_told_from_one_that_was_not(
  capsys: pytest.CaptureFixture[str],
) -> None:
  def learns_to(reward: float) -> pd.Series:
    return pd.Series([0.3, reward], index=[0, 1000])

  found = {(seed, 0): learns_to(0.8 + 0.01 * seed) for seed in range(5)}
  assert fault_curves.compare(found | {(5, 12): learns_to(0.82)}) == 0
  assert fault_curves.compare(found | {(5, 12): learns_to(0.5)}) == 1
  assert 'seed 5, 12 kills: 0.500' in capsys.readouterr().out


def test_no_node_is_killed_more_often_than_it_is_started_again() -> None:
  now = time.monotonic()
  assert fault_curves.may_die('actor-0', [])
  assert fault_curves.may_die('actor-0', [now - i for i in range(4)])
  assert not fault_curves.may_die('actor-0', [now - i for i in range(5)])
  # Ten minutes later it may again.
  assert fault_curves.may_die('actor-0', [now - 601 - i for i in range(5)])
