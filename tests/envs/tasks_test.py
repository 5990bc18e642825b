"""Contracts that every registered task keeps."""

from collections.abc import Iterator
import gc

from dm_env import test_utils
import mujoco
import numpy as np
import pytest

from envs import stepping
from envs import tasks
from tests.envs import conftest

_ZERO = np.zeros(9, np.float32)
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


class _Contract(test_utils.EnvironmentTestMixin):
  """dm_env's own checks, over two ends of episodes."""

  task: str

  def make_object_under_test(self) -> stepping.ManipulationEnvironment:
    return tasks.load(self.task, seed=0)

  def make_action_sequence(self) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(tasks.get(self.task).max_steps + 3):
      yield rng.uniform(-1, 1, 9).astype(np.float32)


globals().update(conftest.for_every_task(_Contract))


def test_every_task_has_its_contract_checked() -> None:
  assert {test.task for test in _Contract.__subclasses__()} == set(tasks.TASKS)


def test_names_are_those_of_the_registry() -> None:
  assert list(tasks.TASKS) == [
    'lift_brick',
    'reach_duplo',
    'stack_2_bricks',
    'two_bricks',
  ]
  assert all(task.name == name for name, task in tasks.TASKS.items())


def test_unknown_task_is_refused() -> None:
  message = (
    r"no task 'juggle'; there are \['lift_brick', 'reach_duplo', 'stack_2_bricks', "
    r"'two_bricks'\]"
  )
  with pytest.raises(ValueError, match=message):
    tasks.load('juggle', seed=0)


def test_what_a_step_returns_fits_the_specs(
  env: stepping.ManipulationEnvironment,
) -> None:
  rng = np.random.default_rng(0)
  timestep = env.reset()
  assert timestep.first() and timestep.reward is None and timestep.discount is None
  for _ in range(10):
    action = rng.uniform(-1, 1, 9).astype(np.float32)
    env.action_spec().validate(action)
    timestep = env.step(action)
    assert timestep.mid()
    env.reward_spec().validate(timestep.reward)
    env.discount_spec().validate(timestep.discount)
    assert set(timestep.observation) == set(env.observation_spec())
    for group, spec in env.observation_spec().items():
      spec.validate(timestep.observation[group])
      assert spec.dtype == np.float32
      assert np.isfinite(timestep.observation[group]).all()


def _rollout(env: stepping.ManipulationEnvironment) -> list[np.ndarray]:
  """Returns what is seen in two short episodes of random actions."""
  rng = np.random.default_rng(0)
  seen = []
  for _ in range(2):
    timestep = env.reset()
    seen.append(np.concatenate([*timestep.observation.values()]))
    for _ in range(15):
      timestep = env.step(rng.uniform(-1, 1, 9).astype(np.float32))
      seen.append(np.concatenate([*timestep.observation.values()]))
  return seen


@pytest.mark.parametrize('name', sorted(tasks.TASKS))
def test_a_seed_decides_on_everything(name: str) -> None:
  first, second, other = (tasks.load(name, seed) for seed in (7, 7, 8))
  expected = _rollout(first)
  np.testing.assert_array_equal(_rollout(second), expected)
  assert not np.array_equal(_rollout(other)[0], expected[0])


@pytest.mark.parametrize('name', sorted(tasks.TASKS))
def test_environments_that_share_a_model_are_those_that_do_not(name: str) -> None:
  seeds = (7, 8, 9)
  shared = tasks.load_many(name, seeds)
  assert len({id(env.physics.model.ptr) for env in shared}) == 1
  # In step with one another, so that each could disturb the others.
  rng = np.random.default_rng(0)
  alone = [tasks.load(name, seed) for seed in seeds]
  for _ in range(2):
    for env, other in zip(shared, alone, strict=True):
      env.reset()
      other.reset()
    for _ in range(15):
      action = rng.uniform(-1, 1, 9).astype(np.float32)
      for env, other in zip(shared, alone, strict=True):
        env.advance(action)
        other.advance(action)
    for env, other in zip(shared, alone, strict=True):
      np.testing.assert_array_equal(env.get_state(), other.get_state())


def test_an_environment_outlives_the_one_it_shares_a_model_with() -> None:
  first, second = tasks.load_many('reach_duplo', (0, 1))
  second.reset()
  state = second.get_state()
  first.close()
  gc.collect()
  second.advance(np.zeros(9))
  second.set_state(state)
  np.testing.assert_array_equal(second.get_state(), state)


def test_reset_takes_a_seed(env: stepping.ManipulationEnvironment) -> None:
  states = []
  for seed in (5, 5, 6):
    env.reset(seed=seed)
    states.append(env.get_state())
  np.testing.assert_array_equal(states[0], states[1])
  assert not np.array_equal(states[0], states[2])


def test_starts_are_random(env: stepping.ManipulationEnvironment) -> None:
  starts = [env.reset().observation for _ in range(4)]
  fields = ['arm_cos', 'pinch_position', 'fingers']
  fields += [f'{name}/position' for name in env.layout.objects]
  fields += [f'{name}/orientation' for name in env.layout.objects]
  for field in fields:
    values = np.array([env.layout.get(start, field) for start in starts])
    assert len(np.unique(values[:, 0])) == 4, field


def test_time_limit_ends_with_discount_1(
  env: stepping.ManipulationEnvironment,
) -> None:
  timestep, steps = env.reset(seed=1), 0
  while not timestep.last():
    timestep = env.step(_ZERO)
    steps += 1
    assert timestep.reward == 0 and timestep.discount == 1
  assert steps == env.task.max_steps
  assert env.step(_ZERO).first()


def _succeed(env: stepping.ManipulationEnvironment, place: conftest.Place) -> None:
  """Puts the scene into a success state of its task."""
  scene = env.scene
  if env.task.name == 'lift_brick':
    place(env, 'brick', np.array([0.3, -0.3, 0.5]), _UPRIGHT)  # It falls for a while.
  elif env.task.name == 'reach_duplo':
    place(env, 'duplo', scene.pinch_position - [0, 0, 0.015], _UPRIGHT)
  elif env.task.name == 'two_bricks':
    place(env, 'base', np.array([0.3, -0.3, 0.5]), _UPRIGHT)
  else:
    studs = scene.object_position('base') + [0, 0, 0.0238]
    place(env, 'top', studs, scene.object_orientation('base'))


def test_success_ends_with_reward_1_and_discount_0(
  env: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  if env.task.name == 'two_bricks':
    env.pursue('lift_base')
  env.reset(seed=3)
  _succeed(env, place)
  for _ in range(env.task.hold_steps - 1):
    timestep = env.step(_ZERO)
    assert timestep.mid() and timestep.reward == 0 and timestep.discount == 1
    assert not env.succeeded
    if env.task.name == 'reach_duplo':
      _succeed(env, place)
  timestep = env.step(_ZERO)
  assert env.succeeded
  assert timestep.last() and timestep.reward == 1 and timestep.discount == 0
  assert env.step(_ZERO).first()
  assert not env.succeeded


def test_success_must_be_held(
  lift: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  lift.reset()
  for _ in range(3):
    _succeed(lift, place)
    for _ in range(lift.task.hold_steps - 1):
      assert lift.step(_ZERO).mid()
    place(lift, 'brick', np.array([0.3, -0.3, 0.0]), _UPRIGHT)
    assert lift.step(_ZERO).reward == 0


def _fields(model: mujoco.MjModel) -> dict[str, np.ndarray]:
  values = {name: getattr(model, name) for name in dir(model) if name[0] != '_'}
  return {k: v.copy() for k, v in values.items() if isinstance(v, np.ndarray)}


def test_model_is_the_same_whatever_the_seed(
  env: stepping.ManipulationEnvironment,
) -> None:
  # Only what is drawn to hint at the goal may differ: sites, and bodies that can
  # neither move nor be touched.
  model = env.physics.model.ptr
  solid = (model.geom_contype | model.geom_conaffinity) != 0
  matters = model.body_weldid != 0  # Those that move.
  matters[model.geom_bodyid[solid]] = True
  env.reset()
  expected = _fields(model)
  assert len(expected) > 200
  for seed in (0, 11):
    other = tasks.load(env.task.name, seed)
    other.reset()
    for name, value in _fields(other.physics.model.ptr).items():
      if name in ('body_pos', 'body_quat'):
        np.testing.assert_array_equal(value[matters], expected[name][matters], name)
      elif name != 'site_pos':
        np.testing.assert_array_equal(value, expected[name], name)
