"""What the networks see: the normalised present, and the goal as a difference to it.

All of it is ours. Goals as scaled differences is what makes tracking easy: with .01 m
or .025 rad per unit, one control step of motion is about one. They are there twice, the
second time enlarged, because how well a small rest of a difference is made up for
decides on the last part of the reward.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sonnet as snt
import tensorflow as tf

from envs import observations as observations_lib
from metamimic.networks import turning

_CLIP = 5.0
_FINE, _FINE_CLIP = 4.0, 2.0  # How much the differences are enlarged, and their bound.
_NEAR = 0.02  # m; a second, fine scale for distances between hand and objects
_ARM_SCALE, _FINGER_SCALE = 0.025, 0.05  # rad
_POSITION_SCALE = 0.01  # m
_ROTATION_SCALE = 0.1  # rad
_HAND_SCALES = (0.02, 0.1)  # m; of positions as the hand sees them

Tensors = Mapping[str, tf.Tensor]


def _offsets(layout: observations_lib.Layout, observation: Any) -> list:
  """Positions of objects relative to the hand and to each other, (..., 3) each."""
  pinch = layout.get(observation, 'pinch_position')
  positions = [layout.get(observation, f'{name}/position') for name in layout.objects]
  offsets = [position - pinch for position in positions]
  for i, first in enumerate(positions):
    offsets += [second - first for second in positions[i + 1 :]]
  return offsets


def _present(
  layout: observations_lib.Layout, observation: Any, concat: Callable[[list], Any]
) -> tuple:
  offsets = _offsets(layout, observation)
  present = [observation[group] for group in layout.sizes]
  # Without objects there are none, and nothing is as wide as that.
  return concat([*present, *offsets]), concat(offsets or [present[0][..., :0]])


def present_size(layout: observations_lib.Layout) -> int:
  """Returns the length of the vectors that `statistics` returns."""
  objects = len(layout.objects)
  return sum(layout.sizes.values()) + 3 * (objects + objects * (objects - 1) // 2)


def num_differences(layout: observations_lib.Layout) -> int:
  """Returns D: of six joints, three fingers and a position, and of each object six."""
  return 12 + 6 * len(layout.objects)


def two_scales(difference: tf.Tensor) -> tf.Tensor:
  """Returns differences, (B, K, D), as they are and enlarged, (B, K * 2 D)."""
  coarse = tf.clip_by_value(difference, -_CLIP, _CLIP)
  fine = tf.clip_by_value(_FINE * difference, -_FINE_CLIP, _FINE_CLIP)
  both = tf.concat([coarse, fine], -1)
  return tf.reshape(both, [tf.shape(both)[0], both.shape[1] * both.shape[2]])


def statistics(
  layout: observations_lib.Layout,
  observations: Sequence[Mapping[str, np.ndarray]],
  turn: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation of the present's features.

  Args:
    layout: of the observations.
    observations: of each demonstration, by group, (T+1, n).
    turn: whether features are to be of what is turned; see `turning`.

  Returns:
    Two float32 vectors. The deviation is at least .01, so that what never changes in
    the demonstrations does not explode when it does.
  """
  frames = {
    group: np.concatenate([o[group] for o in observations]) for group in layout.sizes
  }
  if turn:
    frames = {k: v.numpy() for k, v in turning.turned(layout, frames).items()}
  present, _ = _present(layout, frames, lambda parts: np.concatenate(parts, -1))
  return present.mean(0), present.std(0) + 1e-2


def _rotation(q: tf.Tensor, to: tf.Tensor) -> tf.Tensor:
  """Twice the vector part of the rotation from `q` to `to`, (..., 4) -> (..., 3).

  For small angles that is the rotation vector.
  """
  q = tf.broadcast_to(q, tf.shape(to))
  w, v = q[..., :1], q[..., 1:]
  to_w, to_v = to[..., :1], to[..., 1:]
  scalar = to_w * w + tf.reduce_sum(to_v * v, -1, keepdims=True)
  vector = w * to_v - to_w * v - tf.linalg.cross(to_v, v)
  return 2 * tf.where(scalar < 0, -vector, vector)


class _Present(snt.Module):
  """What is seen of the present alone; its statistics travel with the weights."""

  def __init__(
    self, layout: observations_lib.Layout, mean: np.ndarray, deviation: np.ndarray
  ):
    super().__init__(name='features')
    self._layout = layout
    self._mean = tf.Variable(mean, trainable=False, dtype=tf.float32, name='mean')
    self._deviation = tf.Variable(
      deviation, trainable=False, dtype=tf.float32, name='deviation'
    )

  def present(self, observation: Tensors) -> tf.Tensor:
    """Returns the normalised observation, and distances on a fine scale, (B, F)."""
    present, offsets = _present(
      self._layout, observation, lambda parts: tf.concat(parts, -1)
    )
    present = (present - self._mean) / self._deviation
    return tf.concat(
      [
        tf.clip_by_value(present, -_CLIP, _CLIP),
        tf.clip_by_value(offsets / _NEAR, -3.0, 3.0),
      ],
      -1,
    )


class Features(_Present):
  """Observation and goal frames -> one vector."""

  def __init__(
    self,
    layout: observations_lib.Layout,
    look_ahead: Sequence[int],
    relative: bool,
    shown: bool,
    mean: np.ndarray,
    deviation: np.ndarray,
  ):
    """Takes the statistics.

    Args:
      layout: of the observations.
      look_ahead: how far ahead, in control steps, each goal frame is.
      relative: whether to add how hand and objects shall be to each other.
      shown: whether the goal is among the features at all.
      mean: of the present's features; see `statistics`.
      deviation: likewise.
    """
    super().__init__(layout, mean, deviation)
    self._look_ahead = tuple(look_ahead)
    self._relative = relative
    self._shown = shown

  def __call__(self, observation: Tensors, goal: Tensors) -> tf.Tensor:
    """Returns features.

    Args:
      observation: by group, (B, n).
      goal: frames by group, (B, K, n), as `GoalBank.lookup` gives them.

    Returns:
      (B, F) float32.
    """
    if not self._shown:
      return self.present(observation)
    difference = two_scales(self.difference(observation, goal, self._look_ahead))
    return tf.concat([self.present(observation), difference], -1)

  def difference(
    self, observation: Tensors, goal: Tensors, look_ahead: Sequence[int]
  ) -> tf.Tensor:
    """Returns how far the goal is from the present, in what takes about a step.

    Args:
      observation: by group, (B, n).
      goal: frames by group, (B, K, n).
      look_ahead: how far ahead each of them is.

    Returns:
      (B, K, D) float32; see `num_differences`.
    """
    layout = self._layout
    now = {group: observation[group][:, None] for group in layout.sizes}

    parts = self._places(now, goal)
    if self._relative:
      parts += self._relations(now, goal)
    # A frame k steps ahead lies about k times as far away; sqrt(k) keeps the near
    # differences fine without losing the far ones to the clip.
    ahead = tf.sqrt(tf.constant(look_ahead, tf.float32))[None, :, None]
    return tf.concat(parts, -1) / ahead

  def _places(self, now: Tensors, goal: Tensors) -> list[tf.Tensor]:
    """Where arm and objects shall be, from where they are; (B, K, ...) each."""
    layout = self._layout

    def both(name: str) -> tuple[tf.Tensor, tf.Tensor]:
      return layout.get(now, name), layout.get(goal, name)

    (cos, goal_cos), (sin, goal_sin) = both('arm_cos'), both('arm_sin')
    arm = tf.math.atan2(
      goal_sin * cos - goal_cos * sin, goal_cos * cos + goal_sin * sin
    )
    fingers, goal_fingers = both('fingers')
    pinch, goal_pinch = both('pinch_position')
    parts = [
      arm / _ARM_SCALE,
      (goal_fingers - fingers) / _FINGER_SCALE,
      (goal_pinch - pinch) / _POSITION_SCALE,
    ]
    for name in layout.objects:
      position, goal_position = both(f'{name}/position')
      parts.append((goal_position - position) / _POSITION_SCALE)
      parts.append(_rotation(*both(f'{name}/orientation')) / _ROTATION_SCALE)
    return parts

  def _relations(self, now: Tensors, goal: Tensors) -> list[tf.Tensor]:
    """How hand and objects shall be to each other, from how they are.

    Offsets, and turns about the vertical; (B, K, ...) each.
    """
    layout, parts = self._layout, []
    pairs = (_offsets(layout, frame) for frame in (now, goal))
    for offset, goal_offset in zip(*pairs, strict=True):
      parts.append((goal_offset - offset) / _POSITION_SCALE)
    turns = (_between(_headings(layout, frame)) for frame in (now, goal))
    for angle, goal_angle in zip(*turns, strict=True):
      turn = tf.math.floormod(goal_angle - angle + np.pi, 2 * np.pi) - np.pi
      parts.append(turn[..., None] / _ROTATION_SCALE)
    return parts


class TaskFeatures(_Present):
  """Observation -> one vector, for a policy that is shown no goal.

  What a grasp needs, on scales that a network can use: where each object is as the hand
  sees it, and how it is turned to the hand and to the others. (Ours.)
  """

  def __init__(
    self,
    layout: observations_lib.Layout,
    turn: bool,
    mean: np.ndarray,
    deviation: np.ndarray,
  ):
    """Takes the statistics.

    Args:
      layout: of the observations.
      turn: whether to turn what is seen; see `turning`.
      mean: of the present's features; see `statistics`.
      deviation: likewise.
    """
    super().__init__(layout, mean, deviation)
    self._turn = turn

  def __call__(self, observation: Tensors) -> tf.Tensor:
    """Returns features, (B, F) float32, of an observation by group, (B, n)."""
    layout = self._layout
    if self._turn:
      observation = turning.turned(layout, observation)
    pinch = layout.get(observation, 'pinch_position')
    x, y = tf.split(layout.get(observation, 'pinch_rotation'), 2, -1)
    # The first two rows of the hand's rotation matrix; the third follows from them.
    rows = tf.stack([x, y, tf.linalg.cross(x, y)], -2)
    parts, positions = [self.present(observation)], []
    for name in layout.objects:
      position = layout.get(observation, f'{name}/position')
      in_hand = tf.einsum('bij,bi->bj', rows, position - pinch)
      positions.append(position)
      for scale in _HAND_SCALES:
        parts.append(tf.tanh(in_hand / scale))
    for i, first in enumerate(positions):
      for second in positions[i + 1 :]:
        for scale in _HAND_SCALES:
          parts.append(tf.tanh((second - first) / scale))
    for angle in _between(_headings(layout, observation)):
      # Twice the angle: a brick, and a grasp, is the same turned by half a turn.
      twice = 2 * angle[:, None]
      parts += [tf.cos(twice), tf.sin(twice)]
    return tf.concat(parts, -1)


def _headings(layout: observations_lib.Layout, frame: Tensors) -> list[tf.Tensor]:
  """Turn about the vertical of the hand and of each object, rad, (...) each."""
  rows = layout.get(frame, 'pinch_rotation')
  headings = [tf.math.atan2(rows[..., 3], rows[..., 0])]
  for name in layout.objects:
    w, x, y, z = tf.unstack(layout.get(frame, f'{name}/orientation'), axis=-1)
    headings.append(tf.math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
  return headings


def _between(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Returns the difference of each pair, the second minus the first."""
  return [
    second - first for i, first in enumerate(values) for second in values[i + 1 :]
  ]
