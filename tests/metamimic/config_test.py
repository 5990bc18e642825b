"""Tests of metamimic.config."""

from collections.abc import Mapping
import dataclasses
import functools
import inspect
import json
import math
import operator
import pathlib
from typing import Any

import pytest

from envs import disturbances
from metamimic import config
from metamimic import plain
from metamimic import presets
from metamimic import validation

PATH = '/data/lift.hdf5'
VALID = config.Config(demonstrations=PATH)


def _changed(name: str, value: Any) -> config.Config:
  """Returns VALID with one setting, by its dotted name, changed."""
  return _with({name: value})


def _with(changes: Mapping[str, Any]) -> config.Config:
  values = config.to_dict(VALID)
  for name, value in changes.items():
    *sections, field = name.split('.')
    functools.reduce(operator.getitem, sections, values)[field] = value
  return config.from_dict(values)


@pytest.mark.parametrize('name', list(presets.PRESETS))
def test_presets_are_valid_and_survive_a_file(
  name: str, tmp_path: pathlib.Path
) -> None:
  text, preset = presets.PRESETS[name]
  assert text.endswith('.')
  preset = dataclasses.replace(preset, demonstrations=PATH)
  validation.validate(preset)
  path = str(tmp_path / 'config.json')
  config.save(preset, path)
  assert config.load(path) == preset
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


@pytest.mark.parametrize('name', ['paper', 'pixels_paper'])
def test_large_policies_are_fetched_seldom_by_all_who_act(name: str) -> None:
  preset = presets.PRESETS[name][1]
  assert preset.actor.update_period == preset.task.actor.update_period == 5
  # Otherwise the task policy is as in presets of the same observations.
  usual = presets.PRESETS['pixels' if name == 'pixels_paper' else 'laptop'][1].task
  assert dataclasses.replace(usual.actor, update_period=5) == preset.task.actor


def test_tuples_stay_tuples() -> None:
  changed = _changed('imitation.look_ahead', (3, 4))
  values = config.to_dict(changed)
  assert values['imitation']['look_ahead'] == [3, 4]
  assert config.from_dict(values).imitation.look_ahead == (3, 4)


def test_differences_are_named() -> None:
  changed = dataclasses.replace(_changed('d4pg.discount', 0.95), seed=4, algorithm='bc')
  assert config.differences(VALID, changed) == [
    'algorithm: metamimic -> bc',
    'seed: 0 -> 4',
    'd4pg.discount: 0.9 -> 0.95',
  ]
  assert config.differences(VALID, VALID) == []


def test_flatten_names_by_dots() -> None:
  assert plain.flatten({'a': 1, 'b': {'c': 2, 'd': {'e': [3]}}}) == {
    'a': 1,
    'b.c': 2,
    'b.d.e': [3],
  }


def test_every_setting_has_a_meaning() -> None:
  source = [
    line
    for module in (config, disturbances)
    for line in inspect.getsource(module).splitlines()
  ]
  for name in plain.flatten(config.to_dict(VALID)):
    field = name.rpartition('.')[2]
    # Below the setting of that name stands its docstring.
    lines = [
      i
      for i, line in enumerate(source)
      if line.startswith(f'  {field}: ') and ' = ' in line
    ]
    assert lines, name
    assert all(source[i + 1].startswith('  """') for i in lines), name


def test_unknown_and_missing_fields_are_refused_by_name(tmp_path: pathlib.Path) -> None:
  values = config.to_dict(VALID)
  values['d4pg']['lambda'] = values['d4pg'].pop('discount')
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(values))
  with pytest.raises(ValueError) as e:
    config.load(str(path))
  assert str(e.value) == (
    f"{path}: config.d4pg: unknown fields ['lambda'], missing fields ['discount']"
  )


def test_broken_file_is_refused_by_name(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'config.json'
  path.write_text('{')
  with pytest.raises(ValueError) as e:
    config.load(str(path))
  assert str(e.value).startswith(f'{path}: ')


def test_values_of_a_dense_reward_reach_as_far_as_its_return() -> None:
  dense = {'algorithm': 'd4pg', 'task.reward': 'dense'}
  validation.validate(_with({**dense, 'task.d4pg.v_max': 100.0}))
  with pytest.raises(ValueError) as e:
    validation.validate(_with(dense))
  assert str(e.value) == (
    'task.d4pg.v_min and v_max are 0.0 and 1.0; expected 0 or less, and 100 or '
    'more, which rewards of 1 return with task.d4pg.discount 0.99'
  )


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
  default = config.Config(demonstrations=PATH)
  settings = dataclasses.replace(default.d4pg, v_max=value)
  with pytest.raises(ValueError) as e:
    validation.validate(dataclasses.replace(default, d4pg=settings))
  assert str(e.value) == (
    f'configuration.d4pg.v_max is {value}; expected a number below 9.0072e+15'
  )


def test_values_reach_as_far_as_the_sparse_reward() -> None:
  with pytest.raises(ValueError) as e:
    validation.validate(_with({'task.learn': True, 'task.d4pg.v_max': 0.5}))
  assert str(e.value) == (
    'task.d4pg.v_min and v_max are 0.0 and 0.5; expected 0 or less, and 1 or more, '
    'which the sparse reward returns'
  )


@pytest.mark.parametrize(
  ('discount', 'least'), [(0.9, 10.0), (0.97, 33.34), (0.7, 3.34), (0.99, 100.0)]
)
def test_values_of_imitation_reach_as_far_as_its_return(
  discount: float, least: float
) -> None:
  # Past the end of a demonstration, too: that is none for who learns.
  validation.validate(_with({'d4pg.discount': discount, 'd4pg.v_max': least}))
  less = {'d4pg.discount': discount, 'd4pg.v_max': least - 0.02}
  with pytest.raises(ValueError) as e:
    validation.validate(_with(less))
  assert str(e.value) == (
    f'd4pg.v_min and v_max are 0.0 and {least - 0.02}; expected 0 or less, and '
    f'{1 / (1 - discount):.6g} or more, which rewards of 1 return with d4pg.discount '
    f'{discount}'
  )
  validation.validate(_with({**less, 'algorithm': 'bc'}))


def test_rewards_at_each_step_are_discounted() -> None:
  with pytest.raises(ValueError, match=r'^d4pg\.discount is 1; expected less, with a'):
    validation.validate(_with({'d4pg.discount': 1.0, 'd4pg.v_max': 1000.0}))
  validation.validate(_with({'task.learn': True, 'task.d4pg.discount': 1.0}))


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('learner_steps', 0, 'learner_steps is 0; expected a number above 0'),
    ('d4pg.n_step', -1, 'd4pg.n_step is -1; expected a number above 0'),
    (
      'replay.samples_per_insert',
      0.0,
      'replay.samples_per_insert is 0.0; expected a number above 0',
    ),
    (
      'evaluation.period',
      -1.0,
      'evaluation.period is -1.0; expected a number above 0',
    ),
    ('d4pg.discount', 1.5, 'd4pg.discount is 1.5; expected a number in [0, 1]'),
    (
      'imitation.early_end',
      -0.1,
      'imitation.early_end is -0.1; expected a number in [0, 1]',
    ),
    (
      'd4pg.v_max',
      0.0,
      'd4pg.v_max is 0.0; expected more than d4pg.v_min (0.0)',
    ),
    ('d4pg.num_atoms', 1, 'd4pg.num_atoms is 1; expected at least 2'),
    (
      'replay.min_size',
      500_000,
      'replay.min_size is 500000; expected at most replay.max_size (400000)',
    ),
    (
      'task.learner_steps',
      0,
      'task.learner_steps is 0; expected a number above 0',
    ),
    (
      'task.imitation_share',
      1.5,
      'task.imitation_share is 1.5; expected a number in [0, 1]',
    ),
    (
      'task.demonstration_share',
      -0.5,
      'task.demonstration_share is -0.5; expected a number in [0, 1]',
    ),
    (
      'task.start_within',
      2.0,
      'task.start_within is 2.0; expected a number in [0, 1]',
    ),
    ('task.patience', -1.0, 'task.patience is -1.0; expected 0 or more'),
    (
      'task.d4pg.v_max',
      -1.0,
      'task.d4pg.v_max is -1.0; expected more than task.d4pg.v_min (0.0)',
    ),
    (
      'task.reward',
      'dense',
      'task.reward is dense with the algorithm metamimic; expected d4pg: what '
      'imitation actors and demonstrations write has the sparse reward',
    ),
    (
      'task.replay.min_size',
      500_000,
      'task.replay.min_size is 500000; expected at most task.replay.max_size (400000)',
    ),
    (
      'task.actor.num_actors',
      0,
      'task.actor.num_actors is 0; expected a number above 0',
    ),
    ('seed', -1, 'seed is -1; expected 0 or more'),
    ('evaluation.videos', -1, 'evaluation.videos is -1; expected 0 or more'),
    ('d4pg.gradient_clip', -1.0, 'd4pg.gradient_clip is -1.0; expected 0 or more'),
    (
      'd4pg.critic_learning_rate',
      -1e-3,
      'd4pg.critic_learning_rate is -0.001; expected a number above 0',
    ),
    ('actor.sigma', -0.1, 'actor.sigma is -0.1; expected 0 or more'),
    (
      'actor.sigma_factors',
      (),
      'actor.sigma_factors is []; expected one or more numbers, 0 or more',
    ),
    ('disturbed_share', 1.5, 'disturbed_share is 1.5; expected a number in [0, 1]'),
    (
      'imitation.disturbance.mass',
      2.0,
      'imitation.disturbance.mass is 2.0; expected 1: all training episodes of an '
      'actor share one model',
    ),
    (
      'task.disturbance.push',
      0.1,
      'task.disturbance is set, but the run has no task actors; expected none',
    ),
    (
      'train_demonstrations',
      -1,
      'train_demonstrations is -1; expected 0 or more',
    ),
    (
      'imitation.temperature_factor',
      0.0,
      'imitation.temperature_factor is 0.0; expected a number above 0',
    ),
    ('imitation.look_ahead', (), 'imitation.look_ahead is (); expected steps >= 1'),
    (
      'imitation.look_ahead',
      (1, 0),
      'imitation.look_ahead is (1, 0); expected steps >= 1',
    ),
    (
      'd4pg.target_update_rate',
      0.0,
      'd4pg.target_update_rate is 0.0; expected a number above 0',
    ),
    (
      'demonstrations',
      '',
      'demonstrations is empty; expected the path of an HDF5 file '
      '(python -m metamimic.record makes one)',
    ),
  ],
)
def test_values_that_cannot_work_are_refused(
  name: str, value: Any, message: str
) -> None:
  with pytest.raises(ValueError) as e:
    validation.validate(_changed(name, value))
  assert str(e.value) == message


def test_batches_of_d4pgfd_have_demonstrations() -> None:
  with pytest.raises(ValueError) as e:
    validation.validate(
      _with({'algorithm': 'd4pgfd', 'task.demonstration_share': 0.001})
    )
  assert str(e.value) == (
    'task.demonstration_share is 0.001 of batches of 128, which is none; expected some '
    'with d4pgfd'
  )


_SEEING = {'pixels.cameras': ('front',)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'pixels.cameras': ('front', 'front')},
      "pixels.cameras: cameras are ('front', 'front'); expected one or more, distinct",
    ),
    (
      {'pixels.cameras': ('back',)},
      "pixels.cameras: no camera 'back'; there are ['front', 'side', 'overview', "
      "'wrist']",
    ),
    ({**_SEEING, 'pixels.size': 27}, 'pixels.size is 27; expected 28 to 512'),
    ({**_SEEING, 'pixels.size': 513}, 'pixels.size is 513; expected 28 to 512'),
    (
      {**_SEEING, 'network.filters': (8, 8, 8, 8, 8)},
      'pixels.size is 64; expected 124 to 512',
    ),
    (
      {**_SEEING, 'pixels.look_ahead': ()},
      'pixels.look_ahead is (); expected steps >= 1',
    ),
    (
      {**_SEEING, 'pixels.look_ahead': (2, 0)},
      'pixels.look_ahead is (2, 0); expected steps >= 1',
    ),
    (
      {**_SEEING, 'pixels.shift': -1},
      'pixels.shift is -1; expected 0 or more, and less than pixels.size (64)',
    ),
    (
      {**_SEEING, 'pixels.shift': 64},
      'pixels.shift is 64; expected 0 or more, and less than pixels.size (64)',
    ),
    (
      {**_SEEING, 'pixels.blind': True, 'pixels.goal': 'pictures'},
      'pixels.blind is set with pixels.goal pictures; expected one of them: nothing of '
      'the goal would be left',
    ),
    (
      {**_SEEING, 'network.filters': ()},
      'network.filters and embedding are () and 128; expected numbers above 0',
    ),
    (
      {**_SEEING, 'network.filters': (8, 0)},
      'network.filters and embedding are (8, 0) and 128; expected numbers above 0',
    ),
    (
      {**_SEEING, 'network.embedding': 0},
      'network.filters and embedding are (32, 48, 64) and 0; expected numbers above 0',
    ),
    (
      {**_SEEING, 'imitation.relative': True},
      "pixels.cameras are ('front',) with imitation.relative; expected one of "
      "['wrist'] among them: only a wrist camera shows where objects are to the hand",
    ),
    (
      {'d4pg.reset_at': 0.999, 'learner_steps': 400},
      'd4pg.reset_at is 0.999; expected 0 or more, and some of the 400 learner steps '
      'left',
    ),
    (
      {'task.d4pg.reset_at': -0.1, 'task.learner_steps': 9},
      'task.d4pg.reset_at is -0.1; expected 0 or more, and some of the 9 learner steps '
      'left',
    ),
  ],
)
def test_pictures_that_cannot_be_are_refused(
  changes: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError) as e:
    validation.validate(_with(changes))
  assert str(e.value) == message


@pytest.mark.parametrize(
  'changes',
  [
    {'pixels.size': 28},
    {'pixels.size': 512, 'pixels.cameras': ('side', 'front')},
    {'pixels.shift': 0},
    {'pixels.goal': 'pictures', 'task.learn': True},
    {'pixels.blind': True},
    {'pixels.cameras': ('front', 'wrist'), 'imitation.relative': True},
    *({'algorithm': name} for name in ('d4pg', 'd4pgfd', 'bc', 'bc_no_goal')),
  ],
)
def test_pictures_that_can_be_are_taken(changes: dict[str, Any]) -> None:
  settings = _with({**_SEEING, **changes})
  validation.validate(settings)
  assert settings.pictures is not None
  assert settings.pictures.cameras == settings.pixels.cameras
  assert settings.pictures.size == (settings.pixels.size,) * 2
  assert VALID.pictures is None


def test_self_imitation_is_refused_where_it_cannot_be() -> None:
  chosen = {'task.learner': 'self_imitation'}
  validation.validate(_with({**chosen, 'task.learn': True}))
  for algorithm in ('metamimic', 'd4pg', 'd4pgfd', 'bc'):
    with pytest.raises(ValueError) as e:
      validation.validate(_with({**chosen, 'algorithm': algorithm}))
    assert str(e.value) == (
      'task.learner is self_imitation; expected d4pg, or task.learn with the algorithm '
      'metamimic'
    )
  with pytest.raises(ValueError) as e:
    validation.validate(_with({**chosen, 'task.learn': True, 'task.components': 1}))
  assert str(e.value) == 'task.components is 1; expected 2 or more'


def test_the_task_is_not_begun_with_later_than_replay_can_be_filled() -> None:
  # 2000 to begin with and 1000 steps' batches of 128, each sampled 51 times: 4509.
  few = {'learner_steps': 1000, 'task.start_after': 4059}
  validation.validate(_with(few))
  with pytest.raises(ValueError) as e:
    validation.validate(_with({**few, 'task.learn': True}))
  assert str(e.value) == (
    'task.start_after is 4059; expected less than nine tenths of the 4509 transitions '
    'that imitation actors leave in replay after 1000 learner steps'
  )
  validation.validate(_with({**few, 'task.learn': True, 'task.start_after': 4058}))
  # However long it learns, replay holds no more than its size.
  with pytest.raises(ValueError, match='of the 400000 transitions'):
    validation.validate(_with({'task.learn': True, 'task.start_after': 360_001}))


_BOTH = ('imitation', 'task')


@pytest.mark.parametrize(
  ('changes', 'learners', 'actors', 'arms'),
  [
    ({}, ('imitation',), ('imitation',), ('metamimic',)),
    ({'task.learn': True}, _BOTH, _BOTH, ('metamimic', 'task_policy')),
    (
      {'task.learn': True, 'actor.num_actors': 2, 'task.actor.num_actors': 3},
      _BOTH,
      ('imitation', 'imitation', 'task', 'task', 'task'),
      ('metamimic', 'task_policy'),
    ),
    (
      {'task.learn': True, 'task.imitation_share': 1.0},
      _BOTH,
      ('imitation',),
      ('metamimic', 'task_policy'),
    ),
    ({'algorithm': 'bc', 'task.learn': True}, ('cloning',), (), ('bc',)),
    ({'algorithm': 'bc_no_goal'}, ('cloning',), (), ('bc_no_goal',)),
    ({'algorithm': 'd4pg'}, ('task',), ('task',), ('d4pg',)),
    (
      {'algorithm': 'd4pgfd', 'task.actor.num_actors': 2},
      ('task',),
      ('task', 'task'),
      ('d4pgfd',),
    ),
  ],
)
def test_learners_actors_and_arms(
  changes: dict[str, Any],
  learners: tuple[str, ...],
  actors: tuple[str, ...],
  arms: tuple[str, ...],
) -> None:
  settings = _with(changes)
  assert settings.learners == learners
  assert settings.actors == actors
  assert tuple(settings.arm(learner) for learner in learners) == arms


def test_actors_beyond_those_of_the_settings_take_turns() -> None:
  settings = _with({'task.learn': True, 'actor.num_actors': 2})
  assert [settings.acts_for(index) for index in range(7)] == [
    *('imitation', 'imitation', 'task'),
    *('imitation', 'imitation', 'task'),
    'imitation',
  ]


@pytest.mark.parametrize(
  ('algorithm', 'sees_actions', 'follows'),
  [
    ('metamimic', False, [True, False]),
    ('bc', True, [True]),
    ('bc_no_goal', True, [False]),
    ('d4pg', False, [False]),
    ('d4pgfd', True, [False]),
  ],
)
def test_who_sees_actions_and_who_is_shown_a_demonstration(
  algorithm: str, sees_actions: bool, follows: list[bool]
) -> None:
  settings = _with({'algorithm': algorithm, 'task.learn': True})
  assert settings.sees_actions == sees_actions
  assert [settings.follows(learner) for learner in settings.learners] == follows


def test_each_learner_has_its_own_settings() -> None:
  settings = _with({'learner_steps': 3, 'task.learner_steps': 4})
  task = settings.task
  for name in ('imitation', 'cloning'):
    assert settings.last_step(name) == 3
    assert settings.d4pg_of(name) is settings.d4pg
    assert settings.replay_of(name) is settings.replay
    assert settings.actor_of(name) is settings.actor
  assert settings.last_step('task') == 4
  assert settings.d4pg_of('task') is task.d4pg
  assert settings.replay_of('task') is task.replay
  assert settings.actor_of('task') is task.actor


def test_what_is_seen_in_pictures_is_not_turned() -> None:
  assert _with({'task.learn': True}).turned
  assert not _with({'task.learn': True, 'task.turned': False}).turned
  assert not _with({**_SEEING, 'task.learn': True}).turned
