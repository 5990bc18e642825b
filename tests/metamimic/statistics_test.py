"""Tests of metamimic.statistics."""

import math

import numpy as np
import pandas as pd
import pytest

from metamimic import intervals
from metamimic import statistics


def test_the_reward_of_several_seeds_varies_with_them() -> None:
  seeds = [_episodes().assign(seed=s) for s in range(3)]
  agreeing = statistics.summarise(pd.concat(seeds)).iloc[0]
  seeds[2] = seeds[2].assign(total=seeds[2]['total'] + 0.3)
  varying = statistics.summarise(pd.concat(seeds)).iloc[0]
  assert (agreeing['reward_low'], agreeing['reward_high']) == pytest.approx((0.5, 0.7))
  assert varying['reward'] == pytest.approx(0.7)
  assert varying['reward_low'] < 0.4 and varying['reward_high'] == 1


def test_normalised() -> None:
  assert statistics.normalised(0.75, 0.25, 0.75) == 1
  assert statistics.normalised(0.25, 0.25, 0.75) == 0
  assert statistics.normalised(0.625, 0.25, 0.75) == 0.75
  assert math.isnan(statistics.normalised(0.5, 0.5, 0.5))


def _episodes() -> pd.DataFrame:
  rows = [
    # learner_steps, arm, split, completed, success, arm term, total
    (0, 'replay', 'valid', 1.0, 1, 1.0, 0.9),
    (0, 'replay', 'valid', 1.0, 1, 1.0, 0.9),
    (0, 'replay', 'train', 1.0, 1, 1.0, 0.8),
    (0, 'zero', 'valid', 0.1, 0, 0.2, 0.3),
    (100, 'metamimic', 'valid', 0.2, 0, 0.1, 0.1),
    (200, 'metamimic', 'valid', 0.8, 1, 0.5, 0.5),
    (200, 'metamimic', 'valid', 1.0, 0, 0.7, 0.7),
    (200, 'metamimic', 'train', 1.0, 1, 0.8, 0.6),
  ]
  table = pd.DataFrame(
    rows,
    columns=[
      'learner_steps',
      'arm',
      'split',
      'completed',
      'success',
      'reward/arm',
      'total',
    ],
  )
  names = [f'demo_{i}' for i in range(len(table))]
  return table.assign(seed=0, demonstration=names, steps=100)


def test_summary_has_a_row_an_arm_and_split() -> None:
  summary = statistics.summarise(_episodes())
  assert list(zip(summary['arm'], summary['split'], strict=True)) == [
    ('metamimic', 'valid'),
    ('metamimic', 'train'),
    ('replay', 'valid'),
    ('replay', 'train'),
    ('zero', 'valid'),
  ]
  held_out = summary.iloc[0]
  assert held_out['learner_steps'] == 200
  assert held_out['n'] == 2
  assert held_out['reward'] == pytest.approx(0.6)
  assert held_out['ratio'] == pytest.approx(0.6 / 0.9)
  assert held_out['normalised'] == pytest.approx(0.5)
  assert held_out['completed'] == pytest.approx(0.9)
  assert held_out['success'] == 0.5
  assert held_out['reward/arm'] == pytest.approx(0.6)
  assert 0 < held_out['success_low'] < 0.5 < held_out['success_high'] < 1


def test_the_ratio_is_to_the_replay_of_the_same_split() -> None:
  summary = statistics.summarise(_episodes()).set_index(['arm', 'split'])
  assert summary.loc[('metamimic', 'train'), 'ratio'] == pytest.approx(0.6 / 0.8)
  assert summary.loc[('replay', 'train'), 'ratio'] == 1
  # Zero action was not measured on the training demonstrations.
  assert math.isnan(summary.loc[('metamimic', 'train'), 'normalised'])
  assert math.isnan(summary.loc[('replay', 'train'), 'reward_low'])


def test_each_seed_has_its_own_last_step() -> None:
  table = pd.concat([_episodes(), _episodes().assign(seed=1).iloc[[4]]])
  summary = statistics.summarise(table)
  assert summary.iloc[0]['n'] == 3  # Two at step 200 of seed 0, one at 100 of seed 1.


def test_the_later_row_of_an_episode_measured_twice_counts() -> None:
  again = _episodes().iloc[[6]].assign(total=0.9)
  held_out = statistics.summarise(pd.concat([_episodes(), again])).iloc[0]
  assert held_out['n'] == 2
  assert held_out['reward'] == pytest.approx((0.5 + 0.9) / 2)


def test_without_controls_or_rows() -> None:
  table = _episodes()
  alone = statistics.summarise(table[table['arm'] == 'metamimic'])
  assert len(alone) == 2 and alone['ratio'].isna().all()
  assert statistics.summarise(table.iloc[:0]).empty


def _solving(solved: dict[str, list[float]], **columns: object) -> pd.DataFrame:
  """Returns held-out episodes from the starts demo_0, demo_1, ... of each arm."""
  rows = [
    {'arm': arm, 'demonstration': f'demo_{i}', 'solved': steps}
    for arm, values in solved.items()
    for i, steps in enumerate(values)
  ]
  numbers = dict.fromkeys(('seed', 'learner_steps', 'steps', 'success'), 0)
  same = {**numbers, 'completed': 1.0, 'total': 0.5, 'split': 'valid', **columns}
  return pd.DataFrame(rows).assign(**same)


def test_solving_counts_all_and_compares_where_both_succeed() -> None:
  table = _solving(
    {
      'replay': [100, 200, math.nan, 50],
      'zero': [math.nan] * 4,
      'task_policy': [50, 120, 80, math.nan],
    }
  )
  found = statistics.solving(table)
  assert list(found['arm']) == ['task_policy', 'replay', 'zero']
  policy, replay, zero = (row for _, row in found.iterrows())
  assert (policy['split'], policy['n'], policy['solved']) == ('valid', 4, 0.75)
  assert (policy['solved_low'], policy['solved_high']) == (intervals.proportion(3, 4))
  assert policy['steps'] == 80
  # From demo_0 and demo_1: medians 85 and 150; either alone gives .5 and .6.
  assert policy['ratio'] == pytest.approx(85 / 150)
  assert (policy['ratio_low'], policy['ratio_high']) == (0.5, 0.6)
  assert (replay['solved'], replay['steps']) == (0.75, 100)
  assert (replay['ratio'], replay['ratio_low'], replay['ratio_high']) == (1, 1, 1)
  assert (zero['n'], zero['solved']) == (4, 0)
  assert all(math.isnan(zero[c]) for c in ('steps', 'ratio', 'ratio_low'))


def test_seeds_of_training_do_not_multiply_what_does_not_learn() -> None:
  table = pd.concat(
    [
      _solving({'replay': [100, 200], 'd4pg': [50, math.nan]}),
      _solving({'replay': [100, 200], 'd4pg': [70, 180]}, seed=1),
    ]
  )
  policy, replay = (row for _, row in statistics.solving(table).iterrows())
  assert (replay['n'], replay['seeds'], replay['solved']) == (2, 1, 1)
  assert (policy['n'], policy['seeds'], policy['solved']) == (4, 2, 0.75)
  # From demo_0 in 60 on average, from demo_1 in 180: medians 120 and 150.
  assert policy['ratio'] == pytest.approx(120 / 150)
  summary = statistics.summarise(table).set_index('arm')
  assert summary['n'].to_dict() == {'d4pg': 4, 'replay': 2}


def test_a_seed_that_fails_widens_the_ratios_interval() -> None:
  steps = np.arange(100.0, 120)
  arms = {'replay': list(steps), 'd4pg': list(0.5 * steps)}
  alike = [_solving(arms, seed=seed) for seed in range(3)]
  slower = _solving({'d4pg': list(0.8 * steps)}, seed=2)
  never = _solving({'d4pg': [math.nan] * 20}, seed=2)
  found = [
    statistics.solving(pd.concat([*alike[:2], last])).iloc[0]
    for last in (alike[2], slower, never)
  ]
  assert [f['ratio'] for f in found] == pytest.approx([0.5, 0.6, 0.5])
  assert all(f['seeds'] == 3 and f['n'] == 60 for f in found)
  widths = [f['ratio_high'] - f['ratio_low'] for f in found]
  assert widths[0] == pytest.approx(0, abs=1e-9) and widths[1] > 0.2
  assert found[2]['solved'] == pytest.approx(2 / 3)


def test_solving_compares_no_start_with_itself_alone() -> None:
  one = _solving({'replay': [100, math.nan], 'd4pg': [50, 60]})
  alone = _solving({'d4pg': [50, 60]})
  for table in (one, alone):
    policy = statistics.solving(table).iloc[0]
    assert (policy['arm'], policy['solved'], policy['steps']) == ('d4pg', 1, 55)
    assert math.isnan(policy['ratio']) and math.isnan(policy['ratio_high'])


def test_solving_is_of_the_last_evaluation_and_by_split() -> None:
  table = pd.concat(
    [
      _solving({'d4pg': [10, 10]}, learner_steps=100),
      _solving({'d4pg': [40, math.nan]}, learner_steps=200, split='train'),
      _solving({'d4pg': [30]}, learner_steps=200),
    ]
  )
  found = statistics.solving(table)
  assert found[['split', 'n', 'solved', 'steps']].values.tolist() == [
    ['valid', 1, 1.0, 30.0],
    ['train', 2, 0.5, 40.0],
  ]


def test_an_arm_without_rewards_has_a_success_alone() -> None:
  table = _solving({'d4pg': [30, 40]}, total=math.nan, completed=math.nan, success=1)
  (row,) = statistics.summarise(table).to_dict('records')
  assert (row['n'], row['success']) == (2, 1)
  assert all(math.isnan(row[c]) for c in ('reward', 'reward_low', 'ratio', 'completed'))


def test_missing_columns_are_named() -> None:
  with pytest.raises(ValueError, match=r"columns \['success'\] are missing"):
    statistics.summarise(_episodes().drop(columns='success'))


def test_order_and_terms() -> None:
  arms = ['no_demonstration', 'zero', 'bc', 'wrong_demonstration', 'bc', 'replay']
  assert statistics.order(arms) == [
    'bc',
    'replay',
    'zero',
    'wrong_demonstration',
    'no_demonstration',
  ]
  assert statistics.terms(_episodes()) == ['arm']
