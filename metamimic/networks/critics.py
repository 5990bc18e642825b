"""The categorical critic."""

from collections.abc import Sequence
from typing import Any

from acme.tf import networks as acme_networks
import sonnet as snt
import tensorflow as tf

from metamimic import config as config_lib
from metamimic.networks import policies
from metamimic.networks import residual

_ACTION_SCALE = 4.0
"""By how much actions are enlarged, so that a small change in one shows beside all the
features. (Ours: without this and the goal's fine differences learning takes longer.)"""


class Critics(snt.Module):
  """Several critics that start differently, as one."""

  def __init__(self, members: Sequence[snt.Module]):
    """Takes them.

    Args:
      members: at least one, with the same atoms; each like `CriticNetwork`.
    """
    super().__init__(name='critics')
    self._members = list(members)

  def __call__(
    self, features: Any, action: tf.Tensor
  ) -> acme_networks.DiscreteValuedDistribution:
    """Maps what each of E members takes to (E, B) distributions."""
    each = [member(features, action) for member in self._members]
    logits = tf.stack([distribution.logits for distribution in each])
    return acme_networks.DiscreteValuedDistribution(each[0].values, logits)


class ValueNetwork(snt.Module):
  """Features -> distribution of the return, whatever is done."""

  def __init__(
    self, config: config_lib.NetworkConfig, num_atoms: int, v_min: float, v_max: float
  ):
    """Makes the layers; the arguments are those of `CriticNetwork`."""
    super().__init__(name='value')
    self._torso = residual.ResidualMLP(
      config.critic_width, config.critic_blocks, config.block_layers, config.normalise
    )
    self._head = policies.head(num_atoms)
    self._atoms = tf.linspace(float(v_min), float(v_max), num_atoms)

  def __call__(self, features: tf.Tensor) -> acme_networks.DiscreteValuedDistribution:
    """Maps (B, F) to a batch of B distributions."""
    logits = self._head(self._torso(features))
    return acme_networks.DiscreteValuedDistribution(self._atoms, logits)


class CriticNetwork(snt.Module):
  """Features and action -> distribution of the return, as in D4PG."""

  def __init__(
    self, config: config_lib.NetworkConfig, num_atoms: int, v_min: float, v_max: float
  ):
    """Makes the layers.

    Args:
      config: sizes.
      num_atoms: support of the distribution.
      v_min: lowest atom.
      v_max: highest atom.
    """
    super().__init__(name='critic')
    self._torso = residual.ResidualMLP(
      config.critic_width, config.critic_blocks, config.block_layers, config.normalise
    )
    self._head = policies.head(num_atoms)
    self._atoms = tf.linspace(float(v_min), float(v_max), num_atoms)

  def __call__(
    self, features: tf.Tensor, action: tf.Tensor
  ) -> acme_networks.DiscreteValuedDistribution:
    """Maps (B, F) and (B, A) to a batch of B distributions."""
    logits = self._head(self._torso(tf.concat([features, _ACTION_SCALE * action], -1)))
    return acme_networks.DiscreteValuedDistribution(self._atoms, logits)
