"""Tests of benchmarks.robustness, on policies that were never trained."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import figures
from benchmarks import robustness
from envs import disturbances
from metamimic import config as config_lib
from tests.metamimic import untrained


def test_a_setting_is_one_disturbance_of_one_strength() -> None:
  noise = list(robustness.settings('action_noise'))
  assert noise[1] == ('action_noise', 0.2, disturbances.Disturbance(action_noise=0.2))
  assert noise[-1] == ('none', 0.0, disturbances.NONE)
  names = [name for name, _, _ in robustness.settings('all')]
  assert names.count('none') == 1
  assert set(names) - {'none'} == set(robustness.SWEEPS)


def test_every_policy_is_measured_and_other_rows_are_kept(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  for seed in range(2):
    run = tmp_path / f'lift_brick_task_reset-seed{seed}'
    run.mkdir()
    untrained.make_run(run)
    (run / 'summary.json').write_text('{}')
  (tmp_path / 'lift_brick-seed0').mkdir()  # is not finished
  before = pd.DataFrame(
    [
      ('push', 0.1, 'zero', 'valid', 0, 'demo_9', 1),
      ('action_noise', 0.1, 'zero', 'valid', 0, 'demo_9', 1),
    ],
    columns=[
      'disturbance',
      'strength',
      'arm',
      'split',
      'seed',
      'demonstration',
      'solved',
    ],
  )
  before.to_csv(tmp_path / 'robustness_lift_brick.csv', index=False)
  monkeypatch.setattr(robustness, 'SWEEPS', {'action_noise': (0.3,)})
  arguments = robustness.Arguments(
    'lift_brick', 'action_noise', 1, str(tmp_path), str(tmp_path)
  )
  robustness.main(arguments)
  rows = pd.read_csv(tmp_path / 'robustness_lift_brick.csv')
  assert rows['disturbance'].value_counts().to_dict() == {
    'push': 1,
    'action_noise': 7,
    'none': 7,
  }
  noisy = rows[rows['disturbance'] == 'action_noise']
  assert sorted(noisy['arm']) == [
    *('metamimic', 'metamimic', 'replay', 'task_policy', 'task_policy'),
    *('tracker', 'zero'),
  ]
  undisturbed = rows[(rows['disturbance'] == 'none') & (rows['arm'] == 'replay')]
  replay = noisy[noisy['arm'] == 'replay']
  assert undisturbed['total'].item() > 0.99 > replay['total'].item()
  assert (tmp_path / 'robustness_lift_brick.svg').read_text().count('Action noise')


def test_an_arm_is_called_by_what_it_was_trained_for(tmp_path: pathlib.Path) -> None:
  displaced = disturbances.Disturbance(displacement=0.03, action_noise=0.1)
  noisy = disturbances.Disturbance(action_noise=0.1)
  config = config_lib.Config(task=config_lib.TaskConfig(learn=True))
  imitation, task = config.imitation, config.task
  seeing = config_lib.PixelsConfig(cameras=('front',))
  wrist = config_lib.PixelsConfig(cameras=('wrist',))
  for changes, expected in (
    ({}, ['metamimic', 'task_policy']),
    (
      {'imitation': dataclasses.replace(imitation, disturbance=noisy)},
      ['metamimic_noisy', 'task_policy'],
    ),
    (
      {'imitation': dataclasses.replace(imitation, relative=True)},
      ['metamimic_relative', 'task_policy'],
    ),
    (
      {'task': dataclasses.replace(task, disturbance=displaced)},
      ['metamimic', 'task_policy_displaced'],
    ),
    ({'pixels': seeing, 'algorithm': 'bc'}, ['bc_pixels']),
    (
      {'pixels': dataclasses.replace(seeing, blind=True)},
      ['metamimic_blind', 'task_policy_blind'],
    ),
    (
      {'pixels': wrist, 'imitation': dataclasses.replace(imitation, relative=True)},
      ['metamimic_pixels_relative', 'task_policy_pixels'],
    ),
    (
      {
        'pixels': dataclasses.replace(wrist, blind=True),
        'imitation': dataclasses.replace(imitation, relative=True),
      },
      ['metamimic_blind_relative', 'task_policy_blind'],
    ),
    (
      {
        'pixels': seeing,
        'imitation': dataclasses.replace(imitation, disturbance=displaced),
      },
      ['metamimic_pixels_displaced', 'task_policy_pixels'],
    ),
  ):
    run = dataclasses.replace(config, **changes)  # type: ignore[arg-type]
    assert [robustness.name_arm(run, learner) for learner in run.learners] == expected


def test_an_arm_that_several_experiments_have_is_that_of_the_first(
  tmp_path: pathlib.Path,
) -> None:
  learns = config_lib.Config(task=config_lib.TaskConfig(learn=True))
  for name, config in (
    ('lift_brick-seed0', config_lib.Config()),
    ('lift_brick-seed1', config_lib.Config()),
    ('lift_brick_task_reset-seed0', learns),
    ('lift_brick_task_displaced-seed0', learns),
    ('lift_brick_long-seed0', config_lib.Config()),
  ):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'summary.json').write_text('{}')
    config_lib.save(config, str(tmp_path / name / 'config.json'))
  found = robustness.find_runs(robustness.Arguments('lift_brick', runs=str(tmp_path)))
  assert [(run.path.name, list(run.arms)) for run in found] == [
    ('lift_brick-seed0', ['imitation']),
    ('lift_brick-seed1', ['imitation']),
    ('lift_brick_task_reset-seed0', ['task']),
  ]


def test_those_that_see_are_measured_beside_those_that_need_not(
  tmp_path: pathlib.Path,
) -> None:
  plain = config_lib.Config()
  seeing = config_lib.Config(pixels=config_lib.PixelsConfig(cameras=('front',)))
  for name, config in (
    ('lift_brick-seed0', plain),
    ('lift_brick_task-seed0', plain),
    ('lift_brick_pixels-seed0', seeing),
    ('lift_brick_pixels_strict-seed0', seeing),
    ('lift_brick_pixels_bc-seed0', dataclasses.replace(seeing, algorithm='bc')),
  ):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'summary.json').write_text('{}')
    config_lib.save(config, str(tmp_path / name / 'config.json'))
  arguments = robustness.Arguments('lift_brick_pixels', runs=str(tmp_path))
  found = robustness.find_runs(arguments)
  assert [(run.path.name, run.arms) for run in found] == [
    ('lift_brick_pixels-seed0', {'imitation': 'metamimic_pixels'}),
    ('lift_brick_pixels_bc-seed0', {'cloning': 'bc_pixels'}),
    ('lift_brick-seed0', {'imitation': 'metamimic'}),
  ]


def test_beside_variants_stands_what_was_trained_as_long(
  tmp_path: pathlib.Path,
) -> None:
  for name in ('stack_2_bricks', 'stack_2_bricks_long', 'stack_2_bricks_relative'):
    folder = tmp_path / f'{name}-seed0'
    folder.mkdir()
    (folder / 'summary.json').write_text('{}')
    relative = config_lib.ImitationConfig(relative=name.endswith('relative'))
    config_lib.save(config_lib.Config(imitation=relative), str(folder / 'config.json'))
  arguments = robustness.Arguments('stack_2_bricks', runs=str(tmp_path))
  assert [(run.path.name, run.arms) for run in robustness.find_runs(arguments)] == [
    ('stack_2_bricks_long-seed0', {'imitation': 'metamimic'}),
    ('stack_2_bricks_relative-seed0', {'imitation': 'metamimic_relative'}),
  ]


def test_rows_of_what_is_not_measured_are_kept(tmp_path: pathlib.Path) -> None:
  arguments = robustness.Arguments('lift_brick', output_dir=str(tmp_path))
  columns = ['disturbance', 'strength', 'arm', 'seed', 'solved']
  first = [
    ('none', 0, 'bc', 0, 1),
    ('push', 0.1, 'bc', 0, 2),
    ('push', 0.1, 'bc', 1, 3),
  ]
  first += [('push', 0.1, 'zero', 0, 4), ('mass', 2, 'zero', 0, 5)]
  # Of another seed; what zero does is the same for all.
  again = [
    ('push', 0.2, 'bc', 1, 6),
    ('mass', 2, 'bc', 1, 7),
    ('push', 0.1, 'zero', 1, 8),
  ]
  for rows in (first, again):
    table = pd.DataFrame(rows, columns=columns).assign(demonstration='demo_0')
    written = robustness._write(arguments, table)
  kept = [first[0], first[1], first[4]]
  assert [tuple(row) for row in written[columns].to_numpy()] == [*kept, *again]
  pd.testing.assert_frame_equal(
    pd.read_csv(tmp_path / 'robustness_lift_brick.csv'), written
  )


def test_without_runs_it_says_what_makes_them(tmp_path: pathlib.Path) -> None:
  arguments = robustness.Arguments('lift_brick', runs=str(tmp_path))
  with pytest.raises(ValueError, match=r'no finished run on .*benchmarks\.results'):
    robustness.main(arguments)


def test_curves_begin_without_a_disturbance() -> None:
  rows = pd.DataFrame(
    [
      (kind, strength, 'metamimic', 0, demonstration, solved)
      for kind, strength, both in (
        ('none', 0.0, (9, 9)),
        ('mass', 2.0, (9, None)),
        ('push', 0.1, (None, None)),
      )
      for demonstration, solved in enumerate(both)
    ],
    columns=['disturbance', 'strength', 'arm', 'seed', 'demonstration', 'solved'],
  )
  mass, push = figures.robustness(rows).axes
  curves = [np.asarray(panel.lines[0].get_xydata()).tolist() for panel in (mass, push)]
  assert curves == [[[1, 1], [2, 0.5]], [[0, 1], [0.1, 0]]]
