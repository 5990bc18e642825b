"""Tests of metamimic.networks: features, residual nets, policy and critic."""

import numpy as np
import pytest
import tensorflow as tf

from envs import observations
from metamimic import config as config_lib
from metamimic import presets
from metamimic.networks import critics
from metamimic.networks import features
from metamimic.networks import policies
from metamimic.networks import residual

LIFT = observations.Layout(('brick',))
STACK = observations.Layout(('base', 'top'))


def _frame(layout: observations.Layout, **fields: object) -> dict[str, np.ndarray]:
  """Returns an observation: no angle, no turn, all else nought but `fields`."""
  frame = {group: np.zeros(size, np.float32) for group, size in layout.sizes.items()}
  layout.get(frame, 'arm_cos')[:] = 1
  for name in layout.objects:
    layout.get(frame, f'{name}/orientation')[:] = [1, 0, 0, 0]
  for name, value in fields.items():
    layout.get(frame, name.replace('__', '/'))[:] = value
  return frame


def _features(
  layout: observations.Layout,
  observation: dict[str, np.ndarray],
  goals: list[dict[str, np.ndarray]],
  look_ahead: tuple[int, ...],
  mean: float = 0.0,
  deviation: float = 1.0,
  relative: bool = False,
) -> np.ndarray:
  """Returns the features of one observation, in the parts they are made of."""
  size = features.present_size(layout)
  module = features.Features(
    layout, look_ahead, relative, True, np.full(size, mean), np.full(size, deviation)
  )
  batch = {g: tf.constant(v[None]) for g, v in observation.items()}
  goal = {g: tf.constant(np.stack([f[g] for f in goals])[None]) for g in observation}
  return module(batch, goal).numpy()[0]


def test_sizes() -> None:
  # Body, objects, and each object's offset from the hand and from the others.
  assert features.present_size(LIFT) == 33 + 13 + 3
  assert features.present_size(STACK) == 33 + 26 + 3 * 3
  frame = _frame(LIFT)
  # Present, fine offsets; a goal has arm, fingers, pinch, brick's position and turn,
  # and all of them enlarged.
  assert _features(LIFT, frame, [frame], ()).shape == (49 + 3,)
  assert _features(LIFT, frame, [frame] * 2, (1, 4)).shape == (49 + 3 + 2 * 36,)
  frame = _frame(STACK)
  assert _features(STACK, frame, [frame], (1,)).shape == (68 + 9 + 2 * 24,)


def test_present_is_normalised_and_offsets_are_fine() -> None:
  frame = _frame(
    LIFT, pinch_position=[0.1, 0.2, 0.3], brick__position=[0.11, 0.19, 0.4]
  )
  found = _features(LIFT, frame, [frame], (), mean=0.5, deviation=0.25)
  present = np.concatenate([frame['body'], frame['objects'], [0.01, -0.01, 0.1]])
  np.testing.assert_allclose(found[:49], (present - 0.5) / 0.25, atol=1e-5)
  # In units of 2 cm, clipped at 3.
  np.testing.assert_allclose(found[49:], [0.5, -0.5, 3], atol=1e-5)


def test_offsets_between_objects() -> None:
  frame = _frame(
    STACK,
    pinch_position=[0, 0, 0.01],
    base__position=[0.01, 0, 0],
    top__position=[0.02, 0.02, 0.02],
  )
  found = _features(STACK, frame, [frame], ())
  np.testing.assert_allclose(
    found[68:], [0.5, 0, -0.5, 1, 1, 0.5, 0.5, 1, 1], atol=1e-5
  )


def test_far_from_the_demonstrations_is_clipped() -> None:
  frame = _frame(LIFT, arm_velocity=[100, -100, 4, 0, 0, 0])
  found = _features(LIFT, frame, [frame], ())
  part = LIFT.fields['arm_velocity'].slice
  np.testing.assert_array_equal(found[part], [5, -5, 4, 0, 0, 0])


def test_goal_is_the_scaled_difference() -> None:
  angles = np.array([0.025, -0.05, 3.0, 0, 0, 0])
  now = _frame(
    LIFT, pinch_position=[0.1, 0, 0], fingers=[0.1] * 3, brick__position=[0, 0.1, 0]
  )
  goal = _frame(
    LIFT,
    arm_cos=np.cos(angles),
    arm_sin=np.sin(angles),
    fingers=[0.2, 0.1, 0.05],
    pinch_position=[0.12, 0.01, 0],
    brick__position=[0, 0.1, 0.04],
    brick__orientation=[np.cos(0.05), 0, 0, np.sin(0.05)],
  )
  found = _features(LIFT, now, [goal], (1,))[52:]
  expected = [
    *(1, -2, 5, 0, 0, 0),  # .025 rad; clipped at 5
    *(2, 0, -1),  # .05 rad
    *(2, 1, 0),  # .01 m
    *(0, 0, 4),
    *(0, 0, 2 * np.sin(0.05) / 0.1),  # .1 rad
  ]
  np.testing.assert_allclose(found[:18], expected, atol=1e-4)
  np.testing.assert_allclose(
    found[18:],
    np.clip(4 * np.array([*expected[:2], 120, *expected[3:]]), -2, 2),
    atol=1e-3,
  )


def test_relative_goals_say_how_things_shall_be_to_each_other() -> None:
  def turned(angle: float) -> np.ndarray:
    return np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])

  now = _frame(
    STACK,
    pinch_position=[0.05, 0, 0],
    base__position=[0.01, 0, 0],
    top__position=[0, 0.02, 0],
    pinch_rotation=[np.cos(0.5), -np.sin(0.5), 0, np.sin(0.5), np.cos(0.5), 0],
    top__orientation=turned(3.0),
  )
  goal = _frame(
    STACK,
    pinch_position=[0.05, 0, 0.01],
    base__position=[0.03, 0, 0],
    top__position=[0, 0.02, 0.01],
    pinch_rotation=[np.cos(0.4), -np.sin(0.4), 0, np.sin(0.4), np.cos(0.4), 0],
    top__orientation=turned(-3.2),
  )
  plain = _features(STACK, now, [goal], (1,))
  found = _features(STACK, now, [goal], (1,), relative=True)
  np.testing.assert_array_equal(found[: 77 + 24], plain[: 77 + 24])
  expected = [
    *(2, 0, -1),  # Base from hand, .01 m.
    *(0, 0, 0),  # Top from hand: both .01 higher.
    *(-2, 0, 1),  # Top from base.
    1,  # Base's heading from the hand's, .1 rad.
    1 + 10 * (2 * np.pi - 6.2),  # Top's from the hand's, the short way round.
    10 * (2 * np.pi - 6.2),  # Top's from the base's.
  ]
  np.testing.assert_allclose(found[77 + 24 : 77 + 36], expected, atol=1e-4)
  fine = np.clip(4 * np.array(expected), -2, 2)
  np.testing.assert_allclose(found[77 + 36 + 24 :], fine, atol=1e-3)


def test_relative_goals_do_not_change_where_all_is_moved() -> None:
  now = _frame(STACK, pinch_position=[0.05, 0, 0], top__position=[0, 0.02, 0])
  goal = _frame(STACK, pinch_position=[0.05, 0, 0.1], top__position=[0, 0.02, 0.05])
  offset = np.array([0.1, -0.2, 0.0], np.float32)
  moved = {k: v.copy() for k, v in goal.items()}
  for name in ('pinch_position', 'base/position', 'top/position'):
    STACK.get(moved, name)[:] += offset
  found, other = (
    _features(STACK, now, [g], (1,), relative=True)[77:].reshape(2, 36)[:, 24:]
    for g in (goal, moved)
  )
  np.testing.assert_allclose(found, other, atol=1e-4)


def test_angles_are_compared_the_short_way_round() -> None:
  near, beyond = np.pi - 0.01, -np.pi + 0.015

  def turned(angle: float) -> dict[str, np.ndarray]:
    return _frame(
      LIFT, arm_cos=np.cos([angle] + [0] * 5), arm_sin=np.sin([angle] + [0] * 5)
    )

  found = _features(LIFT, turned(near), [turned(beyond)], (1,))[52:]
  np.testing.assert_allclose(found[:6], [1, 0, 0, 0, 0, 0], atol=1e-4)


def test_farther_frames_are_scaled_by_the_root_of_their_distance() -> None:
  now = _frame(LIFT)
  goal = _frame(LIFT, pinch_position=[0.02, 0, 0])
  found = _features(LIFT, now, [goal, goal], (1, 4))[52:].reshape(2, 36)
  np.testing.assert_allclose(found[:, 9], [2, 1], atol=1e-5)
  assert found[:, 27].tolist() == [2, 2]


def _axis_angle(axis: list[float], angle: float) -> np.ndarray:
  return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * np.array(axis))])


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize(
  ('start', 'to', 'expected'),
  [
    # For small angles the rotation vector, in the first one's own frame.
    (_axis_angle([0, 0, 1], 0.0), _axis_angle([0, 0, 1], 0.02), [0, 0, 0.02]),
    (_axis_angle([1, 0, 0], 0.3), _axis_angle([1, 0, 0], 0.28), [-0.02, 0, 0]),
    # For a large one, twice the sine of half the angle.
    (
      _axis_angle([0, 1, 0], 0.0),
      _axis_angle([0, 1, 0], np.pi / 2),
      [0, np.sqrt(2), 0],
    ),
    # More than half a turn is the rest of it the other way.
    (
      _axis_angle([0, 0, 1], 0.0),
      _axis_angle([0, 0, 1], 1.5 * np.pi),
      [0, 0, -np.sqrt(2)],
    ),
  ],
)
def test_rotation_vector(
  start: np.ndarray, to: np.ndarray, expected: list[float], sign: int
) -> None:
  # A quaternion and its negative are the same rotation.
  found = features._rotation(
    tf.constant(start[None], tf.float32), tf.constant(sign * to[None], tf.float32)
  )
  np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_rotation_is_that_of_the_product_of_quaternions() -> None:
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 20, 4))
  a /= np.linalg.norm(a, axis=1, keepdims=True)
  b /= np.linalg.norm(b, axis=1, keepdims=True)
  found = features._rotation(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
  for (w, *v), (to_w, *to_v), vector in zip(a, b, found.numpy(), strict=True):
    # b times the conjugate of a.
    scalar = to_w * w + np.dot(to_v, v)
    product = w * np.array(to_v) - to_w * np.array(v) - np.cross(to_v, v)
    np.testing.assert_allclose(vector, 2 * np.sign(scalar) * product, atol=1e-5)


def _turn(angle: float) -> np.ndarray:
  """Returns the rotation by an angle about the vertical."""
  cos, sin = np.cos(angle), np.sin(angle)
  return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _task_features(
  layout: observations.Layout, frame: dict[str, np.ndarray]
) -> np.ndarray:
  """Returns what the features of one observation hold beside the present's."""
  size = features.present_size(layout)
  module = features.TaskFeatures(layout, False, np.zeros(size), np.ones(size))
  batch = {g: tf.constant(v[None]) for g, v in frame.items()}
  found = module(batch).numpy()[0]
  present = _features(layout, frame, [frame], ())
  np.testing.assert_array_equal(found[: len(present)], present)
  return found[len(present) :]


def _grasp(turned: float, brick: float) -> dict[str, np.ndarray]:
  """Returns hand and brick, the whole scene turned and then the brick alone."""
  tilt = np.array([[1, 0, 0], [0, -0.8, 0.6], [0, -0.6, -0.8]])
  heading = turned + brick
  return _frame(
    LIFT,
    pinch_position=_turn(turned) @ [0.1, 0.2, 0.3],
    pinch_rotation=(_turn(turned) @ tilt)[:2].ravel(),
    brick__position=_turn(turned) @ [0.12, 0.17, 0.31],
    brick__orientation=[np.cos(heading / 2), 0, 0, np.sin(heading / 2)],
  )


def test_task_features_are_the_objects_as_the_hand_sees_them() -> None:
  # The hand is turned by 90 degrees, so that its x is the world's y; the brick by 120.
  frame = _frame(
    LIFT,
    pinch_position=[0.1, 0.2, 0.3],
    pinch_rotation=[0, -1, 0, 1, 0, 0],
    brick__position=[0.12, 0.21, 0.2],
    brick__orientation=_axis_angle([0, 0, 1], np.pi / 1.5),
  )
  expected = [
    *np.tanh([0.5, -1, -5]),  # 2 cm
    *np.tanh([0.1, -0.2, -1]),  # 10 cm
    *(0.5, np.sqrt(0.75)),  # Twice 30 degrees.
  ]
  np.testing.assert_allclose(_task_features(LIFT, frame), expected, atol=1e-5)


def test_task_features_of_two_objects() -> None:
  frame = _frame(
    STACK,
    pinch_rotation=[1, 0, 0, 0, 1, 0],
    base__position=[0.02, 0, 0],
    top__position=[0, 0.02, 0.04],
    top__orientation=_axis_angle([0, 0, 1], np.pi / 4),
  )
  scales = np.array([[0.02], [0.1]])
  expected = np.concatenate(
    [
      np.tanh([0.02, 0, 0] / scales).ravel(),
      np.tanh([0, 0.02, 0.04] / scales).ravel(),
      np.tanh([-0.02, 0.02, 0.04] / scales).ravel(),
      # Hand to base, hand to top, base to top.
      [1, 0, 0, 1, 0, 1],
    ]
  )
  np.testing.assert_allclose(_task_features(STACK, frame), expected, atol=1e-5)


def test_task_features_stay_when_the_whole_scene_is_turned() -> None:
  as_it_is = _task_features(LIFT, _grasp(0, brick=0.4))
  for angle in (0.3, 2.0, -3.0):
    turned = _task_features(LIFT, _grasp(angle, brick=0.4))
    np.testing.assert_allclose(turned, as_it_is, atol=1e-5)
  other = _task_features(LIFT, _grasp(0, brick=0.9))
  assert np.abs(other[-2:] - as_it_is[-2:]).max() > 0.5


def test_half_a_turn_of_a_brick_is_no_other_grasp() -> None:
  as_it_is = _task_features(LIFT, _grasp(0, brick=0.4))
  half = _task_features(LIFT, _grasp(0, brick=0.4 + np.pi))
  quarter = _task_features(LIFT, _grasp(0, brick=0.4 + np.pi / 2))
  np.testing.assert_allclose(half, as_it_is, atol=1e-5)
  np.testing.assert_allclose(quarter[-2:], -as_it_is[-2:], atol=1e-5)


def test_statistics_are_those_of_all_frames() -> None:
  frames = [
    _frame(LIFT, fingers=[0, 1, 2]),
    _frame(LIFT, fingers=[0, 3, 2], pinch_position=[0.2, 0, 0]),
  ]
  demonstrations = [{g: v[None] for g, v in frame.items()} for frame in frames]
  mean, deviation = features.statistics(LIFT, demonstrations)
  assert mean.shape == deviation.shape == (49,)
  part = LIFT.fields['fingers'].slice
  np.testing.assert_allclose(mean[part], [0, 2, 2])
  # At least .01, and .01 above what it is.
  np.testing.assert_allclose(deviation[part], [0.01, 1.01, 0.01], rtol=1e-5)
  np.testing.assert_allclose(mean[-3:], [-0.1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(('normalise', 'norms'), [(True, 2 * 3), (False, 0)])
def test_residual_nets_have_the_layers_asked_for(normalise: bool, norms: int) -> None:
  net = residual.ResidualMLP(8, blocks=2, block_layers=3, normalise=normalise)
  assert net(tf.zeros([5, 4])).shape == (5, 8)
  shapes = [tuple(v.shape) for v in net.trainable_variables]
  assert shapes.count((4, 8)) == 1
  assert shapes.count((8, 8)) == 2 * 3
  assert shapes.count((8,)) == 1 + 2 * 3 + norms


def test_block_adds_to_its_input() -> None:
  block = residual.ResidualBlock(4, layers=1, normalise=True)
  x = tf.random.stateless_normal([3, 4], seed=(0, 0))
  block(x)
  for variable in block.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  np.testing.assert_array_equal(block(x), x)


def test_normalisation_bounds_what_large_inputs_do() -> None:
  x = tf.random.stateless_normal([3, 4], seed=(0, 0))
  net = residual.ResidualMLP(8, 1, 1, normalise=True)
  np.testing.assert_allclose(net(x), net(1000 * x), atol=0.05)


@pytest.mark.parametrize('normalise', [True, False])
def test_new_policy_hardly_moves_and_never_exceeds_the_bounds(normalise: bool) -> None:
  tf.random.set_seed(0)
  config = config_lib.NetworkConfig(policy_width=16, normalise=normalise)
  policy = policies.PolicyNetwork(9, config)
  x = tf.random.stateless_normal([50, 30], seed=(0, 1))
  assert np.abs(policy(x)).max() < 0.5
  for variable in policy.trainable_variables:
    variable.assign(100 * variable)
  assert np.abs(policy(x)).max() <= 1


def test_critic_is_a_distribution_over_its_atoms() -> None:
  tf.random.set_seed(0)
  config = config_lib.NetworkConfig(critic_width=16)
  critic = critics.CriticNetwork(config, num_atoms=5, v_min=-1.0, v_max=3.0)
  found = critic(tf.ones([2, 7]), tf.zeros([2, 9]))
  np.testing.assert_array_equal(found.values, [-1, 0, 1, 2, 3])
  assert found.logits.shape == (2, 5)
  expected = (tf.nn.softmax(found.logits) * found.values).numpy().sum(1)
  np.testing.assert_allclose(found.mean(), expected, rtol=1e-6)
  action = tf.random.uniform([2, 9], -1, 1)
  enlarged = critic._torso(tf.concat([tf.ones([2, 7]), 4 * action], -1))
  np.testing.assert_allclose(
    critic(tf.ones([2, 7]), action).logits, critic._head(enlarged), atol=1e-6
  )
  # New, it knows nothing: nearly the middle.
  np.testing.assert_allclose(found.mean(), [1, 1], atol=0.2)


def test_paper_preset_is_the_large_one() -> None:
  def count(preset: str) -> int:
    config = presets.PRESETS[preset][1].network
    policy = policies.PolicyNetwork(9, config)
    policy(tf.zeros([1, 160]))
    return sum(int(np.prod(v.shape)) for v in policy.trainable_variables)

  counts = {name: count(name) for name in ('tiny', 'laptop', 'paper')}
  assert counts['tiny'] < 10_000 < 50_000 < counts['laptop'] < 200_000
  assert counts['paper'] > 4_000_000
