"""Tests of metamimic.policy and metamimic.load: acting with no server."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from envs import observations
from envs import tasks
import metamimic
from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import drafts
from metamimic import loading
from metamimic import policy as policy_lib
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import features

LAYOUT = observations.Layout(('brick',))
CONFIG = dataclasses.replace(
  presets.PRESETS['tiny'][1],
  demonstrations='/data/lift.hdf5',
  imitation=config_lib.ImitationConfig(look_ahead=(1, 3)),
)


def _demonstration(
  number: int, steps: int = 4, task: str = 'lift_brick'
) -> types.Demonstration:
  rng = np.random.default_rng(number)
  return types.Demonstration(
    name=f'demo_{number}',
    task=task,
    skill=next(iter(tasks.get(task).skills)),
    observations={
      group: rng.normal(0, 0.1, (steps + 1, size)).astype(np.float32)
      for group, size in LAYOUT.sizes.items()
    },
    states=np.zeros((steps + 1, 2)),
  )


def _set() -> types.DemonstrationSet:
  demonstrations = tuple(_demonstration(i) for i in range(3))
  return types.DemonstrationSet('lift_brick', demonstrations, train=(0, 1), valid=(2,))


def _policy(
  seed: int = 0, learner: str = 'imitation', config: config_lib.Config = CONFIG
) -> policy_lib.Policy:
  """Returns a policy whose actions depend much on what it sees."""
  policy = policy_lib.create(learner, LAYOUT, config, _set())
  rng = np.random.default_rng(seed)
  for variable in policy.network.variables:
    variable.assign(0.3 * rng.standard_normal(variable.shape))
  return policy


@pytest.fixture(name='run_dir')
def run_dir_fixture(tmp_path: pathlib.Path) -> str:
  """Returns a run directory as a learner leaves it."""
  run_dir = str(tmp_path)
  _configure(run_dir)
  run_description.write(run_dir, {'task': 'lift_brick'})
  return run_dir


def _configure(run_dir: str, **changes: Any) -> config_lib.Config:
  config = dataclasses.replace(CONFIG, **changes)
  config_lib.save(config, str(pathlib.Path(run_dir) / 'config.json'))
  return config


def _save(run_dir: str, **policies: policy_lib.Policy) -> None:
  """Writes a checkpoint set of these learners' policies, after seven steps."""
  config = config_lib.load(str(pathlib.Path(run_dir) / 'config.json'))
  with drafts.turn(run_dir):
    draft = drafts.begin(run_dir)
  for learner, policy in policies.items():
    checkpoint = tf.train.Checkpoint(
      **{loading.saved_name(config, learner): policy.network},
      features=policy.features,
    )

    def write(folder: pathlib.Path, of: tf.train.Checkpoint = checkpoint) -> None:
      of.write(loading.state_path(folder))

    draft.add_learner(learner, 7, write)
  draft.complete({}, lambda: 0.0, 0.0)


@pytest.mark.parametrize('learner', ['imitation', 'task'])
def test_statistics_are_those_of_the_training_demonstrations(learner: str) -> None:
  as_seen = dataclasses.replace(CONFIG.task, turned=False)
  config = dataclasses.replace(CONFIG, task=as_seen)
  policy = policy_lib.create(learner, LAYOUT, config, _set())
  frames = np.concatenate([_demonstration(i).observations['body'] for i in range(2)])
  deviation, mean = policy.features.variables
  np.testing.assert_allclose(mean[:33], frames.mean(0), atol=1e-6)
  np.testing.assert_allclose(deviation[:33], frames.std(0) + 0.01, rtol=1e-5)


def test_task_policy_sees_what_is_turned_if_it_is_to() -> None:
  as_seen = dataclasses.replace(
    CONFIG, task=dataclasses.replace(CONFIG.task, turned=False)
  )
  # Hand and brick a quarter further about the arm, whose joint turns the other way.
  before, after = (
    {group: np.zeros((1, n), np.float32) for group, n in LAYOUT.sizes.items()}
    for _ in range(2)
  )
  for frame, (cos, sin) in ((before, (1, 0)), (after, (0, -1))):
    LAYOUT.get(frame, 'arm_cos')[:] = [cos, 1, 1, 1, 1, 1]
    LAYOUT.get(frame, 'arm_sin')[:, 0] = sin
  LAYOUT.get(before, 'pinch_position')[:] = [0.1, 0.4, 0.2]
  LAYOUT.get(after, 'pinch_position')[:] = [0.0, 0.5, 0.2]
  LAYOUT.get(before, 'pinch_rotation')[:] = [1, 0, 0, 0, 1, 0]
  LAYOUT.get(after, 'pinch_rotation')[:] = [0, -1, 0, 1, 0, 0]
  LAYOUT.get(before, 'brick/position')[:] = [0.1, 0.5, 0]
  LAYOUT.get(after, 'brick/position')[:] = [-0.1, 0.5, 0]
  LAYOUT.get(before, 'brick/orientation')[:] = [1, 0, 0, 0]
  LAYOUT.get(after, 'brick/orientation')[:] = [0.5**0.5, 0, 0, 0.5**0.5]
  for learner, of, same in (
    ('task', CONFIG, True),
    ('task', as_seen, False),
    ('imitation', CONFIG, False),
  ):
    policy = _policy(learner=learner, config=of)
    act = policy.unguided() if learner == 'imitation' else policy.actor()
    first, second = (
      act({**seen, 'goal': np.zeros((1, 2), np.int32)}) for seen in (before, after)
    )
    assert np.allclose(first, second, atol=1e-5) == same


def test_batched_actions_are_those_of_the_network() -> None:
  policy, demonstrations = _policy(), _set().demonstrations
  bank = goals.GoalBank(demonstrations, LAYOUT)
  act = policy.actor(bank)
  observation = {
    group: demonstrations[2].observations[group][:3] for group in LAYOUT.sizes
  }
  goal = np.array([[0, 0], [2, 4], [1, 2]], np.int32)
  found = act({**observation, 'goal': goal})
  assert (found.shape, found.dtype) == ((3, 9), np.float32)
  assert np.abs(found).max() <= 1
  ahead = {
    group: np.stack(
      [
        demonstrations[d].observations[group][[min(t + k, 4) for k in (1, 3)]]
        for d, t in goal
      ]
    )
    for group in LAYOUT.sizes
  }
  expected = policy.network(policy.features(observation, ahead))
  np.testing.assert_allclose(found, expected, atol=1e-6)
  # The goal matters.
  assert np.abs(act({**observation, 'goal': goal[::-1].copy()}) - found).max() > 0.01


def test_without_guidance_the_goal_is_the_present() -> None:
  policy = _policy()
  assert isinstance(policy, policy_lib.GoalConditionedPolicy)
  observation = {group: v[:3] for group, v in _demonstration(5).observations.items()}
  found = policy.unguided()({**observation, 'goal': np.zeros((3, 2), np.int32)})
  # As if it followed somebody who stands still.
  still = {
    group: np.repeat(values[:, None], 2, 1) for group, values in observation.items()
  }
  expected = policy.network(policy.features(observation, still))
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_goal_needs_demonstrations_to_be_looked_up_in() -> None:
  with pytest.raises(ValueError, match='no demonstrations to look goals up in'):
    _policy().actor()


def test_task_policy_acts_on_the_observation_alone() -> None:
  policy = _policy(learner='task')
  assert isinstance(policy, policy_lib.TaskPolicy)
  observation = {group: v[:3] for group, v in _demonstration(2).observations.items()}
  found = policy.actor()(observation)
  assert (found.shape, found.dtype) == ((3, 9), np.float32)
  expected = policy.network(policy.features(observation))
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert np.abs(found[0] - found[1]).max() > 0.01
  # Whatever goal comes with it, and compiled for a batch.
  goal = np.array([[1, 2], [0, 3], [2, 0]], np.int32)
  compiled = policy.actor(goals.GoalBank(_set().demonstrations, LAYOUT), batch=3)
  np.testing.assert_allclose(compiled({**observation, 'goal': goal}), found, atol=1e-5)


def test_load_acts_in_three_lines_without_a_server(run_dir: str) -> None:
  trained = _policy(seed=5)
  _save(run_dir, imitation=trained)
  demonstration = _demonstration(9, steps=6)

  imitator = metamimic.load(run_dir)
  follow = imitator.watch(demonstration)
  action = follow({g: v[2] for g, v in demonstration.observations.items()}, 2)

  assert (imitator.task, imitator.config) == ('lift_brick', CONFIG)
  act = trained.actor(goals.GoalBank([demonstration], LAYOUT))
  batch = {g: v[2:3] for g, v in demonstration.observations.items()}
  expected = act({**batch, 'goal': np.array([[0, 2]], np.int32)})[0]
  assert action.shape == (9,)
  np.testing.assert_array_equal(action, expected)


def test_newest_checkpoint_is_loaded(run_dir: str) -> None:
  _save(run_dir, imitation=_policy(seed=1))
  _save(run_dir, imitation=(newest := _policy(seed=2)))
  for a, b in zip(
    metamimic.load(run_dir).policy.variables, newest.variables, strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_policy_is_loaded_from_the_newest_set_in_which_it_is_good(
  run_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
  _save(run_dir, imitation=(older := _policy(seed=1)))
  _save(run_dir, imitation=_policy(seed=2))
  folder = pathlib.Path(run_dir) / 'checkpoints'
  state = folder / '2' / 'imitation' / 'state.data-00000-of-00001'
  state.write_bytes(state.read_bytes()[:-1])
  loaded = metamimic.load(run_dir).policy.variables
  for a, b in zip(loaded, older.variables, strict=True):
    np.testing.assert_array_equal(a, b)
  assert f'skipped for {folder}/1' in caplog.text
  (folder / '1' / 'manifest.json').unlink()
  with pytest.raises(checkpoints.DamagedError) as e:
    metamimic.load(run_dir)
  assert f'no checkpoint set in {folder} is good' in str(e.value)
  # Who only looks changes nothing.
  assert sorted(p.name for p in folder.iterdir()) == ['1', '2', 'host', 'lock']


def test_demonstration_of_another_task_is_refused(run_dir: str) -> None:
  _save(run_dir, imitation=_policy())
  with pytest.raises(ValueError) as e:
    metamimic.load(run_dir).watch(_demonstration(3, task='reach_duplo'))
  assert str(e.value) == (
    "demo_3 is of task 'reach_duplo'; this policy was trained on 'lift_brick'"
  )


def test_directory_without_a_run_is_refused(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError) as e:
    metamimic.load(str(tmp_path))
  assert str(e.value) == (
    f'{tmp_path}/run.json is missing: {tmp_path} is not a run directory'
  )


def test_run_without_a_checkpoint_is_refused(run_dir: str) -> None:
  with pytest.raises(FileNotFoundError) as e:
    metamimic.load(run_dir)
  assert str(e.value) == f'{run_dir} holds no checkpoint yet'


@pytest.mark.parametrize('learner', ['d4pg', 'self_imitation'])
def test_each_policy_of_a_run_is_loaded_from_its_own_checkpoint(
  run_dir: str, learner: Any
) -> None:
  task = config_lib.TaskConfig(learn=True, learner=learner)
  config = _configure(run_dir, task=task)
  imitating, solving = _policy(1), _policy(2, 'task', config)
  _save(run_dir, imitation=imitating, task=solving)

  solver = metamimic.load_task(run_dir)
  observation = {g: v[2] for g, v in _demonstration(9).observations.items()}
  action = solver(observation)

  assert (solver.task, solver.learner_steps) == ('lift_brick', 7)
  assert action.shape == (9,)
  expected = solving.actor()({g: v[None] for g, v in observation.items()})[0]
  np.testing.assert_array_equal(action, expected)
  loaded = metamimic.load(run_dir).policy.variables
  for a, b in zip(loaded, imitating.variables, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ('algorithm', 'learner'),
  [('bc_no_goal', 'cloning'), ('d4pg', 'task'), ('d4pgfd', 'task')],
)
def test_policy_without_a_goal_is_loaded_of_whatever_algorithm(
  run_dir: str, algorithm: str, learner: str
) -> None:
  config = _configure(run_dir, algorithm=algorithm)
  trained = _policy(3, learner, config)
  _save(run_dir, **{learner: trained})
  loaded = metamimic.load_task(run_dir).policy.variables
  for a, b in zip(loaded, trained.variables, strict=True):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError) as e:
    metamimic.load(run_dir)
  assert str(e.value) == (
    f"{run_dir}: algorithm {algorithm} with learners ('{learner}',) has no "
    'GoalConditionedPolicy'
  )


@pytest.mark.parametrize(
  ('algorithm', 'learner'), [('metamimic', 'imitation'), ('bc', 'cloning')]
)
def test_run_without_a_task_policy_is_refused(
  run_dir: str, algorithm: str, learner: str
) -> None:
  _configure(run_dir, algorithm=algorithm)
  with pytest.raises(ValueError) as e:
    metamimic.load_task(run_dir)
  assert str(e.value) == (
    f"{run_dir}: algorithm {algorithm} with learners ('{learner}',) has no TaskPolicy"
  )


def test_checkpoint_of_other_networks_is_refused(run_dir: str) -> None:
  other = dataclasses.replace(CONFIG, network=config_lib.NetworkConfig(policy_width=8))
  _save(run_dir, imitation=policy_lib.create('imitation', LAYOUT, other, _set()))
  with pytest.raises(ValueError, match='shape'):
    metamimic.load(run_dir)


def test_relative_goals_are_among_what_it_sees() -> None:
  relative = dataclasses.replace(CONFIG.imitation, relative=True)
  policies = [
    _policy(config=dataclasses.replace(CONFIG, imitation=imitation))
    for imitation in (CONFIG.imitation, relative)
  ]
  plain, more = (policy.blank.shape[1] for policy in policies)
  mean = np.zeros(features.present_size(LAYOUT))
  expected = features.Features(LAYOUT, (1, 3), True, True, mean, mean + 1)
  frame = {g: tf.zeros([1, size]) for g, size in LAYOUT.sizes.items()}
  goal = {g: tf.zeros([1, 2, size]) for g, size in LAYOUT.sizes.items()}
  assert more == expected(frame, goal).shape[1] > plain


def test_without_cameras_settings_of_pictures_change_nothing() -> None:
  alone = dataclasses.replace(CONFIG, pixels=config_lib.PixelsConfig(goal='pictures'))
  assert _policy(config=alone).blank.shape == _policy().blank.shape
