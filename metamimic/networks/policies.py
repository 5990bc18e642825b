"""The policies' networks."""

from typing import NamedTuple

import numpy as np
import sonnet as snt
import tensorflow as tf

from metamimic import config as config_lib
from metamimic.networks import residual


def head(size: int) -> snt.Linear:
  """Returns a last layer that starts near nought: small actions, flat values."""
  return snt.Linear(size, w_init=snt.initializers.VarianceScaling(0.01))


class PolicyNetwork(snt.Module):
  """Features -> action in [-1, 1]."""

  def __init__(self, num_actions: int, config: config_lib.NetworkConfig):
    """Makes the layers.

    Args:
      num_actions: size of an action.
      config: sizes.
    """
    super().__init__(name='policy')
    self._torso = residual.ResidualMLP(
      config.policy_width, config.policy_blocks, config.block_layers, config.normalise
    )
    self._head = head(num_actions)

  def __call__(self, features: tf.Tensor) -> tf.Tensor:
    """Maps (B, F) to (B, num_actions)."""
    return tf.tanh(self._head(self._torso(features)))


_LEAST_DEVIATION = 0.05
"""Of a mixture's component, so that no action is infinitely likely. (Ours.)"""


class Mixture(NamedTuple):
  """Normal distributions of an action, of which one is drawn; K components."""

  means: tf.Tensor
  """Within [-1, 1], (B, K, A)."""
  log_deviations: tf.Tensor
  """Logarithms of standard deviations, (B, K, A)."""
  logits: tf.Tensor
  """Of the components' probabilities, (B, K)."""


class MixturePolicyNetwork(snt.Module):
  """Features -> several actions and how likely each is; it acts with the likeliest.

  For self-imitation: there are several ways to do a thing, the mean of which is none.
  (Mixture density networks: Bishop 1994.)
  """

  def __init__(
    self, num_actions: int, components: int, config: config_lib.NetworkConfig
  ):
    """Makes the layers.

    Args:
      num_actions: size of an action.
      components: K.
      config: sizes.
    """
    super().__init__(name='policy')
    self._num_actions, self._components = num_actions, components
    self._torso = residual.ResidualMLP(
      config.policy_width, config.policy_blocks, config.block_layers, config.normalise
    )
    self._head = head(components * (2 * num_actions + 1))

  def __call__(self, features: tf.Tensor) -> tf.Tensor:
    """Maps (B, F) to the mean of the likeliest component, (B, num_actions)."""
    mixture = self.mixture(features)
    likeliest = tf.one_hot(tf.argmax(mixture.logits, -1), self._components)
    return tf.einsum('bk,bka->ba', likeliest, mixture.means)

  def mixture(self, features: tf.Tensor) -> Mixture:
    """Maps (B, F) to a batch of B distributions."""
    k, size = self._components, self._num_actions
    outputs = self._head(self._torso(features))
    means, log_deviations, logits = tf.split(outputs, [k * size, k * size, k], -1)
    return Mixture(
      tf.tanh(tf.reshape(means, [-1, k, size])),
      # They start at 1 / e.
      tf.maximum(
        tf.reshape(log_deviations, [-1, k, size]) - 1, np.log(_LEAST_DEVIATION)
      ),
      logits,
    )
