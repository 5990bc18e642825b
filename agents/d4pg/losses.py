"""Losses of D4PG, as pure functions, in the letters of Barth-Maron et al. 2018."""

import tensorflow as tf


def n_step_return(
  r_t: tf.Tensor, d_t: tf.Tensor, real_t: tf.Tensor, discount: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Sums n steps of reward, and discounts what follows them.

  An episode's last transitions are padded; a padded step adds no reward and does not
  discount, so that they bootstrap from the episode's last state.

  Args:
    r_t: rewards, (B, n).
    d_t: the environment's discounts, (B, n).
    real_t: 1 for a step that was taken, 0 for padding, (B, n).
    discount: per step.

  Returns:
    The n-step reward, (B,), and the discount of the bootstrap value, (B,).
  """
  tf.debugging.assert_shapes([(r_t, 'BN'), (d_t, 'BN'), (real_t, 'BN')])
  step = real_t * discount * d_t + (1 - real_t)
  before = tf.math.cumprod(step, axis=1, exclusive=True)
  return tf.reduce_sum(before * r_t * real_t, 1), before[:, -1] * step[:, -1]


def categorical_projection(z_p: tf.Tensor, p: tf.Tensor, z_q: tf.Tensor) -> tf.Tensor:
  """Projects distributions onto evenly spaced atoms (Bellemare et al. 2017).

  Args:
    z_p: atoms of each distribution, (B, M).
    p: their probabilities, (B, M).
    z_q: atoms to project on, evenly spaced, (N,).

  Returns:
    Probabilities, (B, N).
  """
  tf.debugging.assert_shapes([(z_p, 'BM'), (p, 'BM'), (z_q, 'N')])
  z_p = tf.clip_by_value(z_p, z_q[0], z_q[-1])
  spacing = z_q[1] - z_q[0]
  # Each atom's mass is shared by the two nearest atoms, by distance.
  share = 1 - tf.abs(z_p[:, None, :] - z_q[None, :, None]) / spacing
  return tf.einsum('bnm,bm->bn', tf.maximum(share, 0.0), p)


def categorical_td_loss(
  logits_tm1: tf.Tensor,
  r_t: tf.Tensor,
  d_t: tf.Tensor,
  logits_t: tf.Tensor,
  atoms: tf.Tensor,
) -> tf.Tensor:
  """Cross-entropy to the projected Bellman target; no gradient flows to the target.

  Args:
    logits_tm1: of the return from (o_tm1, a_tm1), (B, N).
    r_t: n-step reward, (B,).
    d_t: discount of the bootstrap value, (B,).
    logits_t: the target networks' at (o_t, pi(o_t)), (B, N).
    atoms: evenly spaced support, (N,).

  Returns:
    Loss of each transition, (B,).
  """
  tf.debugging.assert_shapes(
    [
      (logits_tm1, 'BN'),
      (r_t, 'B'),
      (d_t, 'B'),
      (logits_t, 'BN'),
      (atoms, 'N'),
    ]
  )
  z_t = r_t[:, None] + d_t[:, None] * atoms[None]
  target = categorical_projection(z_t, tf.nn.softmax(logits_t), atoms)
  return tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(target), logits_tm1)


def lowest(logits: tf.Tensor, atoms: tf.Tensor) -> tf.Tensor:
  """Returns of each state's distributions the one with the lowest mean.

  What one critic values too highly, another one seldom does (Fujimoto et al. 2018).

  Args:
    logits: of several critics, (E, B, N).
    atoms: their support, (N,).

  Returns:
    (B, N).
  """
  tf.debugging.assert_shapes([(logits, 'EBN'), (atoms, 'N')])
  number = logits.shape[0]
  if number == 1:
    return logits[0]
  chosen = tf.one_hot(tf.argmin(mean(logits, atoms), axis=0), number, axis=0)
  return tf.einsum('eb,ebn->bn', chosen, logits)


def mean(logits: tf.Tensor, atoms: tf.Tensor) -> tf.Tensor:
  """Returns the means, (...), of distributions, (..., N), over atoms, (N,)."""
  return tf.linalg.matvec(tf.nn.softmax(logits), atoms)


def policy_gradient(dqda: tf.Tensor, clip: float = 0.0) -> tf.Tensor:
  """Gradient, in the action, of the deterministic policy gradient's loss.

  The loss is -mean Q(o, pi(o)) (Silver et al. 2014); chain this with d(pi)/d(weights).

  Args:
    dqda: dQ/da of each transition, (B, A).
    clip: largest norm of a transition's dQ/da; 0: any.

  Returns:
    (B, A).
  """
  tf.debugging.assert_shapes([(dqda, 'BA')])
  if clip:
    dqda = tf.clip_by_norm(dqda, clip, axes=-1)
  return -dqda / tf.cast(tf.shape(dqda)[0], dqda.dtype)


def smoothed_action(
  action: tf.Tensor, standard_normal: tf.Tensor, deviation: float
) -> tf.Tensor:
  """Adds clipped noise to the target policy's action (Fujimoto et al. 2018, TD3).

  Args:
    action: in [-1, 1], (B, A).
    standard_normal: the noise, (B, A).
    deviation: by how much it is scaled; it is then clipped at 2.5 of this.

  Returns:
    An action in [-1, 1], (B, A).
  """
  tf.debugging.assert_shapes([(action, 'BA'), (standard_normal, 'BA')])
  noise = deviation * tf.clip_by_value(standard_normal, -2.5, 2.5)
  return tf.clip_by_value(action + noise, -1.0, 1.0)


def cloning_gradient(
  action: tf.Tensor,
  replayed: tf.Tensor,
  value: tf.Tensor,
  replayed_value: tf.Tensor,
) -> tf.Tensor:
  """Gradient, in the action, of a loss that clones what the critic prefers.

  The loss is the mean of |action - replayed|^2 over the batch, where it counts 0 if the
  critic does not prefer the replayed action (Nair et al. 2018).

  Args:
    action: the policy's, (B, A).
    replayed: what was done, (B, A).
    value: of the policy's action, (B,).
    replayed_value: of what was done, (B,).

  Returns:
    (B, A).
  """
  tf.debugging.assert_shapes(
    [(action, 'BA'), (replayed, 'BA'), (value, 'B'), (replayed_value, 'B')]
  )
  preferred = tf.cast(replayed_value > value, action.dtype)[:, None]
  return (
    2 * preferred * (action - replayed) / tf.cast(tf.shape(action)[0], action.dtype)
  )
