"""Residual MLPs with layer normalisation.

The counterpart, for features, of the large normalised networks of Le Paine et al. 2018
(that larger ones are needed, with normalisation, is in its abstract): width and depth
grow by two numbers, and normalisation can be turned off to see what it is for.
"""

import sonnet as snt
import tensorflow as tf


def _layer_norm() -> snt.LayerNorm:
  return snt.LayerNorm(axis=-1, create_scale=True, create_offset=True)


class ResidualBlock(snt.Module):
  """x + MLP(norm(x)), of constant width."""

  def __init__(self, width: int, layers: int, normalise: bool):
    """Makes `layers` linear layers of `width` units.

    Args:
      width: units.
      layers: linear layers.
      normalise: layer normalisation before them.
    """
    super().__init__(name='block')
    self._norm = _layer_norm() if normalise else None
    self._layers = [snt.Linear(width) for _ in range(layers)]

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    """Maps (B, width) to (B, width)."""
    h = x if self._norm is None else self._norm(x)
    for layer in self._layers:
      h = tf.nn.elu(layer(h))
    return x + h


class ResidualMLP(snt.Module):
  """A first layer, residual blocks, a last normalisation."""

  def __init__(self, width: int, blocks: int, block_layers: int, normalise: bool):
    """Makes the layers.

    Args:
      width: units of every layer.
      blocks: residual blocks.
      block_layers: linear layers within one.
      normalise: layer normalisation after the first layer and in every block.
    """
    super().__init__(name='residual_mlp')
    self._first = snt.Linear(width)
    self._norm = _layer_norm() if normalise else None
    self._blocks = [
      ResidualBlock(width, block_layers, normalise) for _ in range(blocks)
    ]

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    """Maps (B, n) to (B, width)."""
    x = self._first(x)
    # tanh, because it bounds what the goal's differences can do at the start.
    x = tf.tanh(x if self._norm is None else self._norm(x))
    for block in self._blocks:
      x = block(x)
    return x
