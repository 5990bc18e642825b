"""The loss of behavioural cloning."""

import tensorflow as tf


def squared_error(action: tf.Tensor, demonstrated: tf.Tensor) -> tf.Tensor:
  """Squared distance between actions.

  Args:
    action: the policy's, (B, A).
    demonstrated: the demonstrator's, (B, A).

  Returns:
    Loss of each frame, (B,).
  """
  tf.debugging.assert_shapes([(action, 'BA'), (demonstrated, 'BA')])
  return tf.reduce_sum(tf.math.squared_difference(action, demonstrated), -1)
