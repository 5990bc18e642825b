"""Tests of benchmarks.experiments."""

import dataclasses
import pathlib
import subprocess

import pytest

from benchmarks import experiment as experiment_lib
from benchmarks import experiments
from envs import reward_library
from envs import rewards
from envs import tasks
from launch_configs import local
from metamimic import config as config_lib
from metamimic import preparation
from metamimic import validation

EXPERIMENTS = experiments.EXPERIMENTS


def _config(name: str) -> config_lib.Config:
  _, config = local.parse([*EXPERIMENTS[name].all_arguments])
  return dataclasses.replace(config, demonstrations='x')


@pytest.mark.parametrize('name', list(EXPERIMENTS))
def test_arguments_are_those_of_the_launcher(name: str) -> None:
  experiment, config = EXPERIMENTS[name], _config(name)
  validation.validate(config)
  if config_lib.IMITATION in config.learners:
    relative, task = config.imitation.relative, experiment.task
    assert not relative or task in reward_library.RELATIVE
    # Its cameras are those that the reward looks through.
    reward, _ = preparation._reward_names(config, task)
    rewards.load(reward, preparation.actor_layout(config, task))
  assert experiment.seeds
  assert config.train_demonstrations in (0, experiment.demonstrations)
  assert bool(experiment.learns_from) == (config_lib.TASK in config.learners) or (
    config.algorithm == 'bc_no_goal'
  )
  if not experiment.plain:
    assert not experiment.change
    return
  plain = EXPERIMENTS[experiment.plain]
  assert not plain.plain and plain.task == experiment.task
  assert bool(plain.learns_from) == bool(experiment.learns_from)
  changed = config_lib.differences(_config(experiment.plain), config)
  assert 1 <= len(changed) <= 2
  few = bool(experiment.fewer)
  assert few == (changed == [f'train_demonstrations: 0 -> {experiment.demonstrations}'])
  assert few != bool(experiment.change)


@pytest.mark.parametrize(
  ('ablation', 'expected'),
  [
    ('no_starts_within', ['imitation.start_within: 0.8 -> 0.0']),
    ('no_early_end', ['imitation.early_end: 0.1 -> 0.0']),
    ('discount_99', ['d4pg.discount: 0.9 -> 0.99', 'd4pg.v_max: 10.0 -> 100.0']),
    ('n_step_1', ['d4pg.n_step: 3 -> 1']),
    ('n_step_5', ['d4pg.n_step: 3 -> 5']),
    ('look_ahead_1', ['imitation.look_ahead: [1, 2, 5] -> [1]']),
    ('temperature_half', ['imitation.temperature_factor: 1.0 -> 0.5']),
    ('temperature_double', ['imitation.temperature_factor: 1.0 -> 2.0']),
    ('no_normalisation', ['network.normalise: True -> False']),
    (
      'width_64',
      ['network.policy_width: 256 -> 64', 'network.critic_width: 256 -> 64'],
    ),
    (
      'width_512',
      ['network.policy_width: 256 -> 512', 'network.critic_width: 256 -> 512'],
    ),
    ('task_no_cloning', ['task.d4pg.cloning_weight: 5.0 -> 0.0']),
    ('task_no_starts_within', ['task.start_within: 0.6 -> 0.0']),
    ('task_no_target_noise', ['task.d4pg.target_noise: 0.2 -> 0.0']),
  ],
)
def test_ablations_change_what_they_say(ablation: str, expected: list[str]) -> None:
  name = f'lift_brick_ablation_{ablation}'
  plain = _config(EXPERIMENTS[name].plain)
  assert config_lib.differences(plain, _config(name)) == expected


@pytest.mark.parametrize('name', [n for n, e in EXPERIMENTS.items() if e.novel])
def test_skills_that_are_left_out_are_the_tasks(name: str) -> None:
  experiment = EXPERIMENTS[name]
  assert _config(name).without_skills == experiment.novel
  assert set(experiment.novel) < set(tasks.get(experiment.task).skills)
  # All that is held out is measured in the end.
  assert _config(name).evaluation.final_episodes >= experiment.recorded[1]


def test_every_skill_is_left_out_once() -> None:
  left_out = [skill for e in EXPERIMENTS.values() for skill in e.novel]
  assert sorted(left_out) == sorted(tasks.get('two_bricks').skills)


def test_variants_differ_from_the_plain_run_in_what_goes_wrong_and_in_steps() -> None:
  longer = ['learner_steps: 120000 -> 240000']
  for task, far, more in (
    ('lift_brick', '0.06', []),
    ('stack_2_bricks', '0.03', longer),
  ):
    plain = _config(task)
    displaced = [
      f'imitation.disturbance.displacement: 0.0 -> {far}',
      'imitation.disturbance.turn: 0.0 -> 0.3',
    ]
    for name, expected in {
      'relative': [*more, 'imitation.relative: False -> True', *displaced],
      'displaced': displaced,
      'noisy': ['imitation.disturbance.action_noise: 0.0 -> 0.3'],
    }.items():
      assert config_lib.differences(plain, _config(f'{task}_{name}')) == expected


def test_what_stands_beside_variants_is_plain_and_as_long() -> None:
  for plain, name in experiments.BESIDE_VARIANTS.items():
    variants = [_config(f'{plain}_{v}').learner_steps for v in experiments.VARIANTS]
    (changed,) = config_lib.differences(_config(plain), _config(name))
    assert changed.startswith('learner_steps: ')
    assert _config(name).learner_steps == max(variants)


@pytest.mark.parametrize(
  ('task', 'learner_steps', 'begins_anew', 'longer'),
  [
    ('lift_brick', 120_000, 40_000, 120_000),
    ('stack_2_bricks', 300_000, 140_000, 340_000),
  ],
)
def test_ways_to_learn_the_task_differ_in_what_they_say(
  task: str, learner_steps: int, begins_anew: int, longer: int
) -> None:
  def way(end: str) -> config_lib.Config:
    return _config('_'.join(filter(None, (task, 'task', end))))

  ends = ('', 'two_critics', 'turned', 'reset', 'reset_long', 'hurried')
  plain, careful, turned, anew, long, hurried = map(way, ends)
  usual = plain.task.learner_steps
  assert config_lib.differences(plain, careful) == [
    f'task.learner_steps: {usual} -> {learner_steps}',
    'task.d4pg.critics: 1 -> 2',
    'task.d4pg.cloning_weight: 5.0 -> 1.0',
  ]
  assert config_lib.differences(careful, turned) == [
    f'task.learner_steps: {learner_steps} -> {usual}',
    'task.turned: False -> True',
  ]
  assert config_lib.differences(turned, anew) == [
    f'task.d4pg.reset_at: 0.0 -> {begins_anew / usual}'
  ]
  assert config_lib.differences(anew, long) == [
    f'task.learner_steps: {usual} -> {longer}',
    f'task.d4pg.reset_at: {begins_anew / usual} -> {begins_anew / longer}',
  ]
  assert {c.reset_after('task') for c in (anew, long)} == {begins_anew}
  assert config_lib.differences(anew, way('reset_own')) == [
    'task.imitation_share: 0.75 -> 0.5',
    'task.patience: 1.5 -> 2.5',
  ]
  assert config_lib.differences(anew, way('reset_farsighted')) == [
    'task.d4pg.discount: 0.99 -> 0.995'
  ]
  baseline, better = (_config(f'{task}_d4pgfd{end}') for end in ('', '_reset'))
  assert config_lib.differences(baseline, better) == [
    'task.turned: False -> True',
    'task.d4pg.critics: 1 -> 2',
    'task.d4pg.cloning_weight: 5.0 -> 1.0',
    'task.d4pg.reset_at: 0.0 -> 0.5',
  ]
  assert config_lib.differences(turned, hurried) == ['task.d4pg.discount: 0.99 -> 0.97']


def test_what_sees_and_what_is_kept_blind_differ_in_that_alone() -> None:
  for name in ('pixels', 'pixels_relative'):
    seeing, blind = (_config(f'lift_brick_{name}{end}') for end in ('', '_blind'))
    assert config_lib.differences(seeing, blind) == ['pixels.blind: False -> True']
  assert config_lib.differences(
    _config('lift_brick_pixels'), _config('lift_brick_pixels_relative')
  ) == [
    'learner_steps: 20000 -> 40000',
    'imitation.relative: False -> True',
    'imitation.disturbance.displacement: 0.0 -> 0.06',
    'imitation.disturbance.turn: 0.0 -> 0.3',
    "pixels.cameras: ['front'] -> ['wrist']",
  ]


def test_every_ablation_is_one_of_the_above() -> None:
  names = [name for name, e in EXPERIMENTS.items() if e.change]
  assert len(names) == 14
  assert all(len(EXPERIMENTS[name].seeds) >= 3 for name in names)


@pytest.mark.parametrize('task', sorted(tasks.TASKS))
def test_make_train_records_what_the_experiments_want(task: str) -> None:
  made = subprocess.run(
    ['make', '-n', 'train', f'TASK={task}'],
    cwd=pathlib.Path(__file__).absolute().parents[2],
    capture_output=True,
    text=True,
    check=True,
  )
  train, valid = experiment_lib.Experiment(task).recorded
  assert f'--train {train} --valid {valid} --seed 0\n' in made.stdout
