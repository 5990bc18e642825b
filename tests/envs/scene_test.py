"""Tests of envs.scene against dm_control's own, slower, access to the physics."""

from typing import Any

import mujoco
import numpy as np
import pytest

from envs import observations
from envs import scene as scene_lib
from envs import stepping
from envs import tasks
from tests.envs import conftest

_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])
# dm_control's names of the bodies of the tasks' objects.
_BODIES = {
  'brick': 'duplo2x4/',
  'duplo': 'duplo2x4/',
  'base': 'duplo2x4/',
  'top': 'duplo2x4_2/',
}


@pytest.fixture
def moving(env: stepping.ManipulationEnvironment) -> stepping.ManipulationEnvironment:
  """The task amid random movements, its objects thrown up, turning."""
  rng = np.random.default_rng(0)
  env.reset(seed=2)
  model, data = env.physics.model.ptr, env.physics.data.ptr
  for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
    qpos, dof = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    data.qpos[qpos + 2] += 0.3
    quaternion = rng.standard_normal(4)
    data.qpos[qpos + 3 : qpos + 7] = quaternion / np.linalg.norm(quaternion)
    data.qvel[dof : dof + 6] = rng.uniform(-1, 1, 6)
  mujoco.mj_forward(model, data)
  for _ in range(2):
    env.advance(rng.uniform(-1, 1, 9))
  return env


def _velocity(env: Any, body: str, local: bool) -> np.ndarray:
  """Returns a body's angular, then linear velocity, (6,)."""
  model, data = env.physics.model.ptr, env.physics.data.ptr
  result = np.empty(6)
  number = model.body(body).id
  kind = mujoco.mjtObj.mjOBJ_XBODY
  mujoco.mj_objectVelocity(model, data, kind, number, result, local)
  return result


def test_observation_equals_the_raw_physics(
  moving: stepping.ManipulationEnvironment,
) -> None:
  env, data = moving, moving.physics.named.data
  task = env._composer.task
  arm = env.physics.bind(task.arm.joints)
  fingers = env.physics.bind(task.hand.joints)
  pinch = env.physics.bind(task.hand.tool_center_point)
  expected = {
    'arm_cos': np.cos(arm.qpos),
    'arm_sin': np.sin(arm.qpos),
    'fingers': fingers.qpos,
    'arm_velocity': arm.qvel,
    'finger_velocity': fingers.qvel,
    'pinch_position': pinch.xpos,
    'pinch_rotation': pinch.xmat[:6],
  }
  for name in env.layout.objects:
    orientation = np.array(data.xquat[_BODIES[name]])
    expected |= {
      f'{name}/position': data.xpos[_BODIES[name]],
      f'{name}/orientation': orientation * np.sign(orientation[0]),
    }
  observation = env.scene.observe()
  for field, value in expected.items():
    actual = env.layout.get(observation, field)
    np.testing.assert_array_equal(actual, np.float32(value), field)
  assert abs(env.layout.get(observation, 'arm_velocity')).max() > 0.05
  for name in env.layout.objects:
    for field, part, local in (
      ('velocity', slice(3, 6), False),
      ('angular_velocity', slice(0, 3), True),
    ):
      speed = env.layout.get(observation, f'{name}/{field}')
      exact = _velocity(env, _BODIES[name], local)[part]
      np.testing.assert_allclose(speed, exact, atol=1e-6)
      assert abs(exact).max() > 0.05


def test_observations_are_new_each_time(lift: stepping.ManipulationEnvironment) -> None:
  first = lift.reset().observation
  before = {group: values.copy() for group, values in first.items()}
  lift.advance(np.ones(9))
  for group, values in before.items():
    np.testing.assert_array_equal(first[group], values)
    assert first[group].dtype == np.float32


def test_orientations_have_one_sign(
  lift: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  turned = np.array([-0.8, 0.6, 0.0, 0.0])
  position = np.array([0.3, 0.3, 0.3])
  lift.reset()
  place(lift, 'brick', position, turned)
  observed = lift.layout.get(lift.scene.observe(), 'brick/orientation')
  np.testing.assert_array_equal(observed, np.array([0.8, -0.6, 0, 0], np.float32))
  np.testing.assert_array_equal(lift.scene.object_orientation('brick'), turned)


def test_properties_are_the_observation_in_full(
  moving: stepping.ManipulationEnvironment,
) -> None:
  scene, layout = moving.scene, moving.layout
  observation = scene.observe()
  for field, value in {
    'arm_cos': np.cos(scene.arm_joints),
    'arm_sin': np.sin(scene.arm_joints),
    'fingers': scene.fingers,
    'finger_velocity': scene.finger_velocities,
    'pinch_position': scene.pinch_position,
    'pinch_rotation': scene.pinch_rotation[:2].ravel(),
    **{f'{o}/position': scene.object_position(o) for o in layout.objects},
  }.items():
    np.testing.assert_array_equal(layout.get(observation, field), np.float32(value))
  rotation = scene.pinch_rotation
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_properties_are_copies(lift: stepping.ManipulationEnvironment) -> None:
  lift.reset()
  state, scene = lift.get_state(), lift.scene
  for array in (
    scene.arm_joints,
    scene.fingers,
    scene.finger_velocities,
    scene.pinch_position,
    scene.pinch_rotation,
    scene.object_position('brick'),
    scene.object_orientation('brick'),
  ):
    array[...] = 7
  np.testing.assert_array_equal(lift.get_state(), state)
  assert abs(scene.pinch_position).max() < 1


def test_velocity_limits_are_dm_controls(env: stepping.ManipulationEnvironment) -> None:
  np.testing.assert_array_equal(
    env.scene.velocity_limits, env._composer.action_spec().maximum
  )
  np.testing.assert_array_equal(
    -env.scene.velocity_limits, env._composer.action_spec().minimum
  )


def test_jacobian_agrees_with_finite_differences(
  moving: stepping.ManipulationEnvironment,
) -> None:
  env, scene, step = moving, moving.scene, 1e-6
  model, data = env.physics.model.ptr, env.physics.data.ptr
  jacobian = scene.pinch_jacobian()
  assert jacobian.shape == (6, 6)
  joints, rotation = scene.arm_joints, scene.pinch_rotation
  for joint in range(6):
    poses = []
    for sign in (1, -1):
      data.qpos[joint] = joints[joint] + sign * step
      mujoco.mj_kinematics(model, data)
      poses.append((scene.pinch_position, scene.pinch_rotation))
    data.qpos[joint] = joints[joint]
    (ahead, ahead_rotation), (behind, behind_rotation) = poses
    spin = (ahead_rotation - behind_rotation) @ rotation.T / (2 * step)
    numeric = [*(ahead - behind) / (2 * step), spin[2, 1], spin[0, 2], spin[1, 0]]
    np.testing.assert_allclose(jacobian[:, joint], numeric, atol=1e-7)
  mujoco.mj_forward(model, data)


def test_an_objects_origin_is_its_bottom_face(
  env: stepping.ManipulationEnvironment,
) -> None:
  env.reset(seed=0)
  for name in env.layout.objects:
    assert abs(env.scene.object_position(name)[2]) < 1e-4  # It stands on the table.


def test_touching_is_contact_with_the_hand(
  env: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  env.reset(seed=0)
  scene, objects = env.scene, env.layout.objects
  assert env.physics.data.ncon > 0  # With the table.
  assert not any(scene.touching(name) for name in objects)
  for name in objects:
    home = scene.object_position(name), scene.object_orientation(name)
    place(env, name, scene.pinch_position + [0, 0, 0.04], _UPRIGHT)
    assert [scene.touching(other) for other in objects] == [
      other == name for other in objects
    ]
    place(env, name, np.array([0.4, 0.4, 0.5]), _UPRIGHT)
    assert not scene.touching(name)
    place(env, name, *home)
    assert not scene.touching(name)


def test_touching_is_not_contact_between_objects(place: conftest.Place) -> None:
  env = tasks.load('stack_2_bricks', seed=0)
  env.reset(seed=0)
  scene = env.scene
  aslant = scene.object_position('base') + [0.005, 0.005, 0.017]
  place(env, 'top', aslant, scene.object_orientation('base'))
  model, contact = env.physics.model.ptr, env.physics.data.ptr.contact
  bodies = {model.body(_BODIES[name]).id for name in ('base', 'top')}
  roots = model.body_rootid[model.geom_bodyid[contact.geom[contact.dist <= 0]]]
  assert bodies in [set(pair) for pair in roots]
  assert not scene.touching('top') and not scene.touching('base')


def test_objects_must_be_those_of_the_model(
  lift: stepping.ManipulationEnvironment,
) -> None:
  message = r"^the model has 1 free bodies; expected \('base', 'top'\)$"
  with pytest.raises(ValueError, match=message):
    scene_lib.Scene(
      lift._composer.task, lift.physics, observations.Layout(('base', 'top'))
    )


def test_place_object_puts_it_there_at_rest() -> None:
  env = tasks.load('stack_2_bricks', seed=0)
  env.reset()
  other = env.scene.object_position('base')
  env.scene.push_object('top', np.array([0.5, 0.5]))
  position, orientation = np.array([0.1, -0.2, 0.3]), np.array([0.6, 0.0, 0.0, 0.8])
  env.scene.place_object('top', position, orientation)
  seen = env.scene.observe()
  np.testing.assert_allclose(env.layout.get(seen, 'top/position'), position)
  np.testing.assert_allclose(env.layout.get(seen, 'top/orientation'), orientation)
  assert not env.layout.get(seen, 'top/velocity').any()
  np.testing.assert_array_equal(env.scene.object_position('base'), other)
