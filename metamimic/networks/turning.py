"""Observations turned about the arm's first joint.

That joint turns without limit, about the vertical, and what the arm stands on is the
same all around it: where arm and objects are turned about it together, actions do what
they did before. So a policy, and what judges it, need not tell these states apart, and
what is learned in one holds for all. (Ours.)
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from envs import observations as observations_lib

_AXIS = np.array([0.0, 0.4, 0.0], np.float32)  # m; where the joint is, world frame.

Tensors = Mapping[str, tf.Tensor]


def turned(layout: observations_lib.Layout, observation: Tensors) -> Tensors:
  """Returns an observation as it would be with the arm's first joint at nought.

  Args:
    layout: of the observation. Of pictures there is no saying.
    observation: by group, (..., n).

  Returns:
    The same groups. Of body and objects all are turned alike; what is told in frames of
    their own, and what is no direction, stays.
  """
  # The joint turns clockwise, seen from above, and what is turned back the other way.
  # By the angle, because sensed with noise its cosine and sine are no unit vector.
  angle = tf.math.atan2(
    layout.get(observation, 'arm_sin')[..., :1],
    layout.get(observation, 'arm_cos')[..., :1],
  )
  cos, sin = tf.cos(angle), tf.sin(angle)
  half_cos, half_sin = tf.cos(angle / 2), tf.sin(angle / 2)

  def direction(v: tf.Tensor) -> tf.Tensor:
    x, y, z = tf.split(v, 3, -1)
    return tf.concat([cos * x - sin * y, sin * x + cos * y, z], -1)

  def rows(m: tf.Tensor) -> tf.Tensor:
    x, y = tf.split(m, 2, -1)
    return tf.concat([cos * x - sin * y, sin * x + cos * y], -1)

  def orientation(q: tf.Tensor) -> tf.Tensor:
    w, x, y, z = tf.split(q, 4, -1)
    product = tf.concat(
      [
        half_cos * w - half_sin * z,
        half_cos * x - half_sin * y,
        half_cos * y + half_sin * x,
        half_cos * z + half_sin * w,
      ],
      -1,
    )
    return tf.where(product[..., :1] < 0, -product, product)

  change = {
    'arm_cos': lambda v: tf.concat([tf.ones_like(cos), v[..., 1:]], -1),
    'arm_sin': lambda v: tf.concat([tf.zeros_like(sin), v[..., 1:]], -1),
    'pinch_position': lambda v: direction(v - _AXIS) + _AXIS,
    'pinch_rotation': rows,
    'position': lambda v: direction(v - _AXIS) + _AXIS,
    'orientation': orientation,
    'velocity': direction,
  }
  parts: dict[str, list[tf.Tensor]] = {}
  for name, field in layout.fields.items():
    value = layout.get(observation, name)
    kind = name.rpartition('/')[2]
    parts.setdefault(field.group, []).append(change.get(kind, tf.identity)(value))
  return {group: tf.concat(values, -1) for group, values in parts.items()}
