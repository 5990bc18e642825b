"""Losses of self-imitation, as pure functions."""

import tensorflow as tf


def mixture_log_likelihood(
  action: tf.Tensor, means: tf.Tensor, log_deviations: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
  """Logarithm of an action's density under a mixture of normal distributions.

  Without the constant, A log(2 pi) / 2.

  Args:
    action: (B, A).
    means: of the components, (B, K, A).
    log_deviations: logarithms of their standard deviations, (B, K, A).
    logits: of their probabilities, (B, K).

  Returns:
    (B,).
  """
  tf.debugging.assert_shapes(
    [(action, 'BA'), (means, 'BKA'), (log_deviations, 'BKA'), (logits, 'BK')]
  )
  distance = (action[:, None] - means) * tf.exp(-log_deviations)
  components = -tf.reduce_sum(distance**2 / 2 + log_deviations, -1)
  return tf.reduce_logsumexp(components + tf.nn.log_softmax(logits), -1)


def imitation_loss(log_likelihood: tf.Tensor, advantage: tf.Tensor) -> tf.Tensor:
  """Minus the mean log-likelihood of what turned out better than expected.

  Args:
    log_likelihood: of what was done, (B,).
    advantage: by how much it turned out better, (B,).

  Returns:
    A scalar; 0 if nothing did.
  """
  tf.debugging.assert_shapes([(log_likelihood, 'B'), (advantage, 'B')])
  better = tf.cast(advantage > 0, log_likelihood.dtype)
  return -tf.math.divide_no_nan(
    tf.reduce_sum(better * log_likelihood), tf.reduce_sum(better)
  )
