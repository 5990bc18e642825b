"""Tests of metamimic.demonstrations.skills."""

from collections.abc import Iterator
import math

import numpy as np
import pytest

from envs import stepping
from envs import tasks
from metamimic.demonstrations import skills

_STYLE = skills.Style(
  speed=1.0,
  hover=0.08,
  lift=1.0,
  pre_shape=0.6,
  close_steps=28,
  detour=0.06,
  detour_probability=0.0,
  pause_probability=0.0,
)


@pytest.fixture(name='env', scope='module')
def env_fixture() -> Iterator[stepping.ManipulationEnvironment]:
  env = tasks.load('lift_brick', seed=0)
  yield env
  env.close()


def _hand(env: stepping.ManipulationEnvironment, **style: float) -> skills.Hand:
  env.reset(seed=1)
  values = {**_STYLE.__dict__, **style}
  return skills.Hand(env.scene, skills.Style(**values), np.random.default_rng(0))


def _run(env: stepping.ManipulationEnvironment, actions: skills.Actions) -> int:
  steps = 0
  for action in actions:
    assert action.shape == (9,)
    assert abs(action).max() <= 1
    env.advance(action)
    steps += 1
  return steps


@pytest.mark.parametrize('degrees', [-170, -90, 0, 45, 180])
def test_yaw_of_a_rotation_about_the_vertical(degrees: float) -> None:
  half = math.radians(degrees) / 2
  quaternion = np.array([math.cos(half), 0, 0, math.sin(half)])
  assert skills.yaw_of(quaternion) == pytest.approx(math.radians(degrees))
  assert skills.yaw_of(-quaternion) == pytest.approx(math.radians(degrees))


@pytest.mark.parametrize(
  'angle, period, expected', [(3.0, 4.0, -1.0), (-3.0, 4.0, 1.0), (2.0, 4.0, -2.0)]
)
def test_wrap(angle: float, period: float, expected: float) -> None:
  assert skills.wrap(angle, period) == pytest.approx(expected)


def test_go_arrives_with_the_hand_pointing_down(
  env: stepping.ManipulationEnvironment,
) -> None:
  hand, target = _hand(env), np.array([0.05, -0.05, 0.15])
  steps = _run(env, hand.go(lambda: target, 0.5, None, max_steps=100))
  assert 5 < steps < 100
  assert np.linalg.norm(env.scene.pinch_position - target) < 0.008
  assert abs(hand.yaw - 0.5) < 0.1
  assert env.scene.pinch_rotation[2, 2] < -0.99


def test_slower_styles_take_longer(env: stepping.ManipulationEnvironment) -> None:
  target = np.array([0.05, -0.05, 0.15])
  steps = []
  for speed in (1.0, 0.6):
    hand = _hand(env, speed=speed)
    steps.append(_run(env, hand.go(lambda: target, 0.5, None, max_steps=100)))
  assert steps[1] > 1.3 * steps[0]


def test_go_gives_up_where_it_cannot_arrive(
  env: stepping.ManipulationEnvironment,
) -> None:
  hand = _hand(env, speed=0.5)
  hand.phase = 'carry'
  taken = []
  with pytest.raises(skills.SkillFailed, match=r'^carry: time-out$'):
    for action in hand.go(lambda: np.array([3.0, 0, 0]), 0.0, None, max_steps=10):
      taken.append(action)
      env.advance(action)
  assert len(taken) == 20  # half the speed, twice the time


def test_lift_of_nothing_fails(env: stepping.ManipulationEnvironment) -> None:
  hand = _hand(env)
  with pytest.raises(skills.SkillFailed, match=r'^lift: the object stayed behind$'):
    _run(env, hand.lift('brick', 0.05))


def test_open_fingers_take_the_shape_of_the_style(
  env: stepping.ManipulationEnvironment,
) -> None:
  hand = _hand(env, pre_shape=0.5)
  assert _run(env, hand.hold(40, None)) == 40
  np.testing.assert_allclose(env.scene.fingers, 0.5, atol=0.02)


def test_pauses_and_detours_follow_the_style(
  env: stepping.ManipulationEnvironment,
) -> None:
  hand = _hand(env)
  assert _run(env, hand.maybe_pause(None)) == 0
  assert _run(env, hand.maybe_detour(None, 0.12)) == 0
  hand = _hand(env, pause_probability=1.0, detour_probability=1.0)
  assert 4 <= _run(env, hand.maybe_pause(None)) <= 15
  start = env.scene.pinch_position
  hand.phase = 'approach'
  _run(env, hand.maybe_detour(None, 0.12))
  moved = np.linalg.norm((env.scene.pinch_position - start)[:2])
  assert 0.02 < moved < 0.10
  assert hand.phase == 'approach'
