"""Tests of metamimic.networks.turning, on the simulated scene."""

import numpy as np
import pytest
import tensorflow as tf

from envs import observations
from envs import stepping
from envs import tasks
from metamimic.networks import features
from metamimic.networks import turning

TASK = 'stack_2_bricks'
ANGLES = (0.7, -2.0, 3.1)


@pytest.fixture(name='environment', scope='module')
def environment_fixture() -> stepping.ManipulationEnvironment:
  """Returns two bricks, some way from each other, and the arm anywhere."""
  environment = tasks.load(TASK, seed=3)
  environment.reset()
  return environment


def _turn_scene(environment: stepping.ManipulationEnvironment, angle: float) -> None:
  """Turns arm and bricks about the arm's first joint, counter-clockwise from above."""
  physics = environment.physics
  model, data = physics.model, physics.data
  axis = physics.named.data.xanchor['jaco_arm/joint_1'][:2]
  cos, sin = np.cos(angle), np.sin(angle)
  turn = np.array([[cos, -sin], [sin, cos]])
  half_cos, half_sin = np.cos(angle / 2), np.sin(angle / 2)
  physics.named.data.qpos['jaco_arm/joint_1'] -= angle
  for joint in np.flatnonzero(model.jnt_type == 0):
    place, velocity = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    pose = data.qpos[place : place + 7]
    pose[:2] = turn @ (pose[:2] - axis) + axis
    w, x, y, z = pose[3:]
    pose[3:] = [
      half_cos * w - half_sin * z,
      half_cos * x - half_sin * y,
      half_cos * y + half_sin * x,
      half_cos * z + half_sin * w,
    ]
    data.qvel[velocity : velocity + 2] = turn @ data.qvel[velocity : velocity + 2]
  physics.forward()


def _turned(
  layout: observations.Layout, observation: observations.Observation
) -> dict[str, np.ndarray]:
  batch = {group: tf.constant(v[None]) for group, v in observation.items()}
  return {k: v.numpy()[0] for k, v in turning.turned(layout, batch).items()}


def _roll(
  environment: stepping.ManipulationEnvironment, state: np.ndarray, angle: float
) -> list[dict[str, np.ndarray]]:
  """Returns what is seen of some steps, the whole scene turned first."""
  environment.set_state(state)
  _turn_scene(environment, angle)
  rng = np.random.default_rng(0)
  seen = [environment.observe()]
  for _ in range(15):
    action = rng.uniform(-0.5, 0.5, 9).astype(np.float32)
    seen.append(environment.advance(action))
  return [{k: v.copy() for k, v in o.items()} for o in seen]


@pytest.mark.parametrize('angle', ANGLES)
def test_actions_do_the_same_all_around(
  environment: stepping.ManipulationEnvironment, angle: float
) -> None:
  layout, state = environment.layout, environment.get_state()
  straight, around = (_roll(environment, state, a) for a in (0.0, angle))
  environment.set_state(state)
  for before, after in zip(straight, around, strict=True):
    first, second = _turned(layout, before), _turned(layout, after)
    for name in layout.fields:
      np.testing.assert_allclose(
        layout.get(second, name), layout.get(first, name), atol=2e-4, err_msg=name
      )
  # Else it would show nothing.
  moved = np.abs(straight[-1]['body'] - straight[0]['body'])
  assert moved.max() > 0.1
  assert np.abs(around[0]['objects'] - straight[0]['objects']).max() > 0.1


def test_what_is_seen_is_the_scene_with_the_joint_at_nought(
  environment: stepping.ManipulationEnvironment,
) -> None:
  layout, state = environment.layout, environment.get_state()
  found = _turned(layout, environment.observe())
  joint = environment.physics.named.data.qpos['jaco_arm/joint_1']
  _turn_scene(environment, float(joint))
  expected = environment.observe()
  for name in layout.fields:
    np.testing.assert_allclose(
      layout.get(found, name), layout.get(expected, name), atol=1e-5, err_msg=name
    )
  # There is nothing left to turn.
  again = _turned(layout, found)
  for group in found:
    np.testing.assert_allclose(again[group], found[group], atol=1e-6)
  environment.set_state(state)


def test_features_and_their_statistics_are_of_what_is_turned(
  environment: stepping.ManipulationEnvironment,
) -> None:
  layout, state = environment.layout, environment.get_state()
  seen, moments = [], []
  for turn in (False, True):
    size = features.present_size(layout)
    module = features.TaskFeatures(layout, turn, np.zeros(size), np.ones(size))
    for angle in (0.0, *ANGLES):
      rolled = _roll(environment, state, angle)
      batch = {k: np.stack([o[k] for o in rolled]) for k in rolled[0]}
      seen.append(module({k: tf.constant(v) for k, v in batch.items()}).numpy())
      moments.append(np.stack(features.statistics(layout, [batch], turn)))
  environment.set_state(state)
  as_they_are, turned = seen[:4], seen[4:]
  for other in turned[1:]:
    np.testing.assert_allclose(other, turned[0], atol=2e-2)
  for other in moments[5:]:
    np.testing.assert_allclose(other, moments[4], atol=1e-3)
  assert all(np.abs(o - as_they_are[0]).max() > 0.3 for o in as_they_are[1:])


def test_noise_of_the_joint_makes_nothing_longer() -> None:
  layout = observations.Layout(('brick',))
  seen = {group: tf.ones([1, size]) for group, size in layout.sizes.items()}
  turned = turning.turned(layout, seen)
  for name in ('brick/velocity', 'brick/orientation'):
    lengths = [np.linalg.norm(layout.get(o, name)) for o in (seen, turned)]
    assert lengths[1] == pytest.approx(lengths[0])
