"""The goal-conditioned policy."""

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
