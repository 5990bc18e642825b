"""Tests of envs.disturbances on every task."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from envs import disturbances
from envs import imitation
from envs import rewards
from envs import stepping
from envs import tasks
from tests.envs import conftest


def _disturber(
  env: stepping.ManipulationEnvironment, seed: int = 0, **strengths: Any
) -> disturbances.Disturber:
  return disturbances.Disturber(env, disturbances.Disturbance(**strengths), seed)


def _pose(env: stepping.ManipulationEnvironment, name: str) -> np.ndarray:
  return np.concatenate(
    [env.scene.object_position(name), env.scene.object_orientation(name)]
  )


def test_objects_are_displaced_by_as_much_as_asked_for(
  env: stepping.ManipulationEnvironment,
) -> None:
  disturber = _disturber(env, displacement=0.02, turn=0.5)
  offsets, turns = [], []
  for seed in range(8):
    env.reset(seed=seed)
    before = {name: _pose(env, name) for name in env.task.objects}
    observation = disturber.begin(seed)
    assert env.scene.penetration() < 1e-3
    for name, pose in before.items():
      moved = _pose(env, name)
      offsets.append(moved[:3] - pose[:3])
      turns.append(2 * np.arccos(min(abs(moved[3:] @ pose[3:]), 1)))
      seen = env.layout.get(observation, f'{name}/position')
      np.testing.assert_allclose(seen, moved[:3], atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 0.02, atol=1e-9)
  assert np.std(offsets, axis=0)[:2].min() > 0.005  # in any direction, but not up
  assert np.abs(np.array(offsets)[:, 2]).max() == 0
  assert 0.05 < max(turns) <= 0.5 + 1e-6


def test_what_is_in_contact_is_left_where_it_is(place: conftest.Place) -> None:
  env = tasks.load('stack_2_bricks', seed=0)
  env.reset(seed=1)
  studs = env.scene.object_position('base') + [0, 0, 0.0238]
  place(env, 'top', studs, env.scene.object_orientation('base'))
  for _ in range(10):
    env.advance(np.zeros(9))
  before = env.get_state()
  _disturber(env, displacement=0.02).begin(0)
  np.testing.assert_array_equal(env.get_state(), before)
  # Far from the base, held fast in the hand: only the base is moved.
  env.reset(seed=1)
  place(env, 'top', env.scene.pinch_position - [0, 0, 0.015], np.array([1.0, 0, 0, 0]))
  while env.scene.penetration() < 2e-3:
    env.advance(np.concatenate([np.zeros(6), np.ones(3)]))
    place(
      env, 'top', env.scene.pinch_position - [0, 0, 0.015], np.array([1.0, 0, 0, 0])
    )
  assert env.scene.touching('top')
  top, base = env.scene.object_position('top'), env.scene.object_position('base')
  _disturber(env, displacement=0.02).begin(0)
  np.testing.assert_array_equal(env.scene.object_position('top'), top)
  moved = np.linalg.norm(env.scene.object_position('base') - base)
  assert moved == pytest.approx(0.02)


def test_in_training_each_kind_is_met_in_a_share_of_the_episodes_and_weaker(
  lift: stepping.ManipulationEnvironment,
) -> None:
  lift.reset(seed=0)
  state = lift.get_state()
  disturber = disturbances.Disturber(
    lift, disturbances.Disturbance(displacement=0.03, action_noise=0.2), 0, share=0.7
  )
  start, moved, noise = lift.scene.object_position('brick'), [], []
  for _ in range(300):
    lift.set_state(state)
    disturber.begin()
    moved.append(np.linalg.norm(lift.scene.object_position('brick') - start))
    noise.append(np.std([disturber.act(np.zeros(9)) for _ in range(20)]))
  for values, most in ((np.array(moved), 0.03), (np.array(noise), 0.2)):
    met = values > 0
    assert met.mean() == pytest.approx(0.7, abs=0.08)
    # Uniform up to the most there is.
    assert values[met].mean() == pytest.approx(most / 2, rel=0.12)
    assert values.max() < 1.2 * most
  # One kind has nothing to do with the other.
  both = np.mean((np.array(moved) > 0) & (np.array(noise) > 0))
  assert both == pytest.approx(0.49, abs=0.08)


def test_in_training_an_object_without_a_place_stays(
  lift: stepping.ManipulationEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
  lift.reset(seed=0)
  deeper = itertools.count()
  monkeypatch.setattr(lift.scene, 'penetration', lambda: float(next(deeper)))
  before = lift.get_state()
  disturbance = disturbances.Disturbance(displacement=0.02)
  disturbances.Disturber(lift, disturbance, 0, share=1.0).begin()
  np.testing.assert_array_equal(lift.get_state(), before)
  with pytest.raises(RuntimeError, match=r'no place for the objects 0\.02 m from'):
    disturbances.Disturber(lift, disturbance, 0).begin()


def test_the_same_seed_disturbs_alike(env: stepping.ManipulationEnvironment) -> None:
  found: list[np.ndarray] = []
  for seed in (3, 3, 4):
    env.reset(seed=1)
    # Made with other seeds: that of the episode decides.
    disturber = _disturber(
      env,
      len(found),
      displacement=0.01,
      push=0.3,
      action_noise=0.1,
      observation_noise=0.001,
    )
    observation = disturber.begin(seed)
    for _ in range(60):
      observation = env.advance(disturber.act(np.zeros(9)))
    seen = disturber.sense(observation)
    found.append(np.concatenate([env.get_state(), *seen.values()]))
  np.testing.assert_array_equal(found[0], found[1])
  assert (found[0] != found[2]).any()


def test_actions_are_late_and_noisy() -> None:
  env = tasks.load('reach_duplo', seed=0)
  env.reset(seed=0)
  late = _disturber(env, action_delay=2)
  late.begin()
  sent = [late.act(np.full(9, float(t)))[0] for t in range(1, 5)]
  assert sent == [0, 0, 1, 2]
  noisy = _disturber(env, action_noise=0.2)
  noisy.begin()
  noise = np.array([noisy.act(np.full(9, 0.5)) for _ in range(2000)]) - 0.5
  assert abs(noise.mean()) < 0.01
  assert noise.std() == pytest.approx(0.2, rel=0.03)


def test_pushes_come_once_in_two_seconds(env: stepping.ManipulationEnvironment) -> None:
  env.reset(seed=0)
  disturber = _disturber(env, push=0.25)
  disturber.begin()
  state, pushed = env.get_state(), []
  for _ in range(1000):
    env.set_state(state)
    before = env.scene.observe()['objects']
    disturber.act(np.zeros(9))
    change = env.scene.observe()['objects'] - before
    pushed += [np.linalg.norm(change)] if change.any() else []
  assert 10 <= len(pushed) <= 32
  np.testing.assert_allclose(pushed, 0.25, rtol=1e-5)


def test_only_what_a_policy_sees_is_noisy(
  env: stepping.ManipulationEnvironment,
) -> None:
  observation = env.reset(seed=0).observation
  disturber = _disturber(env, observation_noise=0.001)
  disturber.begin()
  seen = [disturber.sense(observation) for _ in range(400)]
  name = env.task.objects[0]

  def deviation(field: str) -> float:
    values = [env.layout.get(o, field) for o in seen]
    return float(np.std(values, axis=0).mean())

  assert deviation(f'{name}/position') == pytest.approx(0.001, rel=0.1)
  assert deviation('arm_cos') == pytest.approx(0.01, rel=0.1)
  assert deviation('arm_velocity') == pytest.approx(0, abs=1e-6)
  assert all(v.dtype == np.float32 for v in seen[0].values())


def test_mass_and_friction_are_changed_once_for_environments_that_share_a_model() -> (
  None
):
  environments = tasks.load_many('stack_2_bricks', [0, 1])
  model, data = (getattr(environments[0].physics, a).ptr for a in ('model', 'data'))
  environments[0].reset(seed=0)
  assert data.ncon  # of bricks on the table
  masses, friction = model.body_mass.copy(), data.contact.friction.copy()
  changed = disturbances.Disturbance(mass=2.0, friction=0.5)
  disturbances.make(environments, changed, [0, 1])
  heavier = model.body_mass != masses
  assert heavier.any() and not heavier.all()
  np.testing.assert_allclose(model.body_mass[heavier], 2 * masses[heavier])
  environments[0].reset(seed=0)
  np.testing.assert_allclose(data.contact.friction, friction / 2)


@dataclasses.dataclass
class _Demonstration:
  observations: dict[str, np.ndarray]
  states: np.ndarray
  skill: str = 'lift'


def test_a_noisy_episode_is_rewarded_for_what_is_true(
  lift: stepping.ManipulationEnvironment,
) -> None:
  observations, states = [lift.reset(seed=0).observation], [lift.get_state()]
  action = np.full(9, 0.1, np.float32)
  for _ in range(3):
    observations.append(lift.advance(action))
    states.append(lift.get_state())
  groups = {
    group: np.stack([o[group] for o in observations]) for group in ('body', 'objects')
  }
  reward = rewards.load('envs.reward_library:LIFT_BRICK', lift.layout)
  assert isinstance(reward, rewards.Reward)
  following = imitation.ImitationEnvironment(
    lift,
    [_Demonstration(groups, np.stack(states))],
    rewards.calibrate(reward, [groups]),
    disturber=_disturber(lift, observation_noise=0.1),
  )
  seen = following.reset(0, step=0).observation
  assert np.abs(seen['body'] - groups['body'][0]).max() > 0.05
  assert following.step(action).reward['imitation'] == pytest.approx(1, abs=1e-6)


def test_what_a_displacement_moves_does_not_count_as_pushed() -> None:
  env = tasks.load('two_bricks', seed=0)
  env.pursue('push')
  env.reset(seed=1)
  before = env.scene.object_position('top')
  _disturber(env, displacement=0.07).begin(0)
  assert np.linalg.norm(env.scene.object_position('top') - before) > 0.05
  for _ in range(env.task.hold_steps):
    env.advance(np.zeros(9))
  assert not env.succeeded
  env.close()


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('push', -0.1, r'disturbance\.push is -0\.1; expected 0 or more'),
    ('mass', 0.0, r'disturbance\.mass is 0\.0; expected a number above 0'),
  ],
)
def test_strengths_that_cannot_be_are_refused(
  field: str, value: float, message: str
) -> None:
  strengths: dict[str, Any] = {field: value}
  with pytest.raises(ValueError, match=message):
    disturbances.Disturbance(**strengths)
