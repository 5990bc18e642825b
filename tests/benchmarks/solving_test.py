"""Tests of benchmarks.solving, on made-up results."""

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import figures
from benchmarks import solving

_STEPS = {'imitation': 300, 'task': 100}


def _write(
  folder: pathlib.Path, name: str, solved: dict[str, list[float]], **steps: int
) -> None:
  """Writes an experiment's files: two runs, and of each arm an episode a number."""
  rows = [
    {
      'seed': 0,
      'learner_steps': 0 if arm == 'replay' else 60_000,
      'arm': arm,
      'demonstration': f'demo_{i}',
      'split': 'valid',
      'steps': 100,
      'completed': 1.0,
      'total': 0.9,
      'success': int(not math.isnan(steps_)),
      'solved': steps_,
    }
    for arm, each in solved.items()
    for i, steps_ in enumerate(each)
  ]
  pd.DataFrame(rows).to_csv(folder / f'{name}.csv', index=False)
  run = {'environment_steps': steps or _STEPS}
  (folder / f'{name}.json').write_text(json.dumps({'runs': {'0': run, '1': run}}))


@pytest.fixture(name='folder')
def folder_fixture(tmp_path: pathlib.Path) -> pathlib.Path:
  """Returns a folder with a few results."""
  arms = {
    'metamimic': [100.0, 120.0],
    'task_policy': [90.0, math.nan],
    'replay': [100.0, 110.0],
    'zero': [math.nan, math.nan],
    'no_demonstration': [math.nan, math.nan],
  }
  _write(tmp_path, 'lift_brick_task', arms)
  two = {'task_policy': [80.0, 70.0], 'replay': [100.0, 110.0]}
  _write(tmp_path, 'lift_brick_task_two_critics', two)
  _write(tmp_path, 'lift_brick_d4pg', {'d4pg': [math.nan] * 2}, task=500)
  for name in ('lift_brick_d4pgfd', 'lift_brick_d4pgfd_reset'):
    _write(tmp_path, name, {'d4pgfd': [60.0, math.nan]}, task=500)
  _write(tmp_path, 'stack_2_bricks_task', {'task_policy': [200.0, math.nan]})
  # Neither ablations nor what sees pictures is drawn; the latter is in the table.
  _write(tmp_path, 'lift_brick_ablation_task_no_cloning', two)
  _write(tmp_path, 'lift_brick_pixels_task', two)
  return tmp_path


def test_the_table_says_whose_experience_it_was(folder: pathlib.Path) -> None:
  (table,) = solving.table(folder)
  rows = [
    dict(zip(table.header, (c.text for c in row), strict=True)) for row in table.rows
  ]
  shown = [
    (r['arm'], r['environment steps'], r["imitation actors'"], r['solved (95 %)'][:4])
    for r in rows
  ]
  assert shown == [
    ('MetaMimic', '', '', '1.00'),
    ('task policy', '400', '0.75', '0.50'),
    ('open-loop replay (sees actions)', '', '', '1.00'),
    ('task policy', '400', '0.75', '1.00'),
    ('D4PG', '500', '', '0.00'),
    *2 * [('D4PGfD (sees actions)', '500', '', '0.50')],
    ('task policy', '400', '0.75', '0.50'),
    ('task policy', '400', '0.75', '1.00'),
  ]
  assert rows[0]['learns from'] == 'imitation actors'
  assert [r['learner steps'] for r in rows[:3]] == ['60,000', '60,000', '']
  place = table.header.index("imitation actors'")
  assert table.rows[1][place].source == (
    'results/lift_brick_task.json, runs.*.environment_steps: mean, share of imitation'
  )


def test_curves_are_of_features_and_end_at_the_share_solved(
  folder: pathlib.Path,
) -> None:
  curves = solving.curves(folder)
  assert [(c.task, c.label) for c in curves] == [
    ('lift_brick', 'MetaMimic'),
    ('lift_brick', 'task policy'),
    ('lift_brick', 'open-loop replay (sees actions)'),
    ('lift_brick', 'task policy, two critics, a fifth of the cloning'),
    ('lift_brick', 'D4PG'),
    ('lift_brick', 'D4PGfD (sees actions)'),
    (
      'lift_brick',
      'D4PGfD (sees actions), two critics, a fifth of the cloning, turned, begun anew '
      'once',
    ),
    ('stack_2_bricks', 'task policy'),
  ]
  np.testing.assert_array_equal(curves[1].solved, [90, np.inf])
  np.testing.assert_array_equal(curves[3].solved, [70, 80])
  lift, stack = figures.steps_to_success(curves).axes
  _, policy, _, two_critics, d4pg, *_ = lift.lines
  last = 1.05 * 120
  assert np.asarray(policy.get_xydata()).tolist() == [[0, 0], [90, 0.5], [last, 0.5]]
  assert np.asarray(d4pg.get_xydata()).tolist() == [[0, 0], [last, 0]]
  # One arm, told apart.
  assert policy.get_color() == two_critics.get_color()
  assert policy.get_linestyle() != two_critics.get_linestyle()
  assert stack.get_xlim() == pytest.approx((0, 210))


def test_where_nobody_succeeds_lines_stay_at_nought(
  tmp_path: pathlib.Path,
) -> None:
  assert solving.curves(tmp_path) == []
  _write(tmp_path, 'lift_brick_d4pg', {'d4pg': [math.nan] * 2}, task=500)
  (axes,) = figures.steps_to_success(solving.curves(tmp_path)).axes
  assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0, 0]


def test_every_way_to_learn_the_task_has_a_line_of_its_own(
  tmp_path: pathlib.Path,
) -> None:
  names = [
    name
    for name, e in experiments.EXPERIMENTS.items()
    if e.task == 'lift_brick' and '--task.learn' in e.arguments
    if not e.plain and e.preset == 'laptop'
  ]
  assert len(names) >= 6
  for name in names:
    _write(tmp_path, name, {'task_policy': [80.0, math.nan]})
  (axes,) = figures.steps_to_success(solving.curves(tmp_path)).axes
  assert len(axes.lines) == len({line.get_label() for line in axes.lines}) == len(names)
  # Each takes the next of these.
  assert len(names) <= len(figures.STYLES) == len(set(figures.STYLES))
