"""Residual torsos: more and larger convolutions, with normalisation.

After Espeholt et al. 2018 (IMPALA): stages of a convolution, a maximum over neighbours
that halves the picture, and residual blocks. Recalled of Le Paine et al. 2018, and not
checked: 20 convolutions, with instance normalisation between them and layer
normalisation between fully connected layers. How these are put together is ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sonnet as snt
import tensorflow as tf

from metamimic.networks import pictures

_SIDE, _POOL, _STRIDE = 3, 3, 2


def _nothing(h: tf.Tensor) -> tf.Tensor:
  return h


def _instance_norm(normalise: bool) -> Callable[[tf.Tensor], tf.Tensor]:
  if not normalise:
    return _nothing
  return snt.InstanceNorm(create_scale=True, create_offset=True)


class _Block(snt.Module):
  """x + convolutions of it."""

  def __init__(self, filters: int, normalise: bool):
    super().__init__(name='block')
    # What is added to all of a picture is taken away by the normalisation after it.
    self._convolutions = [
      snt.Conv2D(filters, _SIDE, with_bias=biased) for biased in (not normalise, True)
    ]
    self._norms = [_instance_norm(normalise) for _ in range(2)]

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    h = x
    for norm, convolution in zip(self._norms, self._convolutions, strict=True):
      h = convolution(tf.nn.elu(norm(h)))
    return x + h


class _Stage(snt.Module):
  """Halves a picture's sides."""

  def __init__(self, filters: int, blocks: int, normalise: bool):
    super().__init__(name='stage')
    self._convolution = snt.Conv2D(filters, _SIDE)
    self._blocks = [_Block(filters, normalise) for _ in range(blocks)]

  def __call__(self, h: tf.Tensor) -> tf.Tensor:
    h = tf.nn.max_pool2d(self._convolution(h), _POOL, _STRIDE, 'SAME')
    for block in self._blocks:
      h = block(h)
    return h


class ResidualTorso(snt.Module):
  """Seen -> features, and what the convolutions make of the pictures beside them."""

  def __init__(
    self, filters: Sequence[int], blocks: int, embedding: int, normalise: bool
  ):
    """Makes the layers.

    Args:
      filters: of each stage.
      blocks: residual blocks of a stage; two convolutions each, beside its first.
      embedding: numbers that are made of pictures.
      normalise: instance normalisation before convolutions of blocks, and layer
        normalisation of the embedding.
    """
    super().__init__(name='torso')
    self._stages = [_Stage(n, blocks, normalise) for n in filters]
    self._last = snt.Linear(embedding)
    self._norm = snt.LayerNorm(-1, True, True) if normalise else _nothing

  def __call__(self, seen: pictures.Seen) -> tf.Tensor:
    """Returns (B, F + embedding)."""
    h = seen.pictures
    for stage in self._stages:
      h = stage(h)
    h = self._last(snt.flatten(tf.nn.elu(h)))
    return tf.concat([seen.features, tf.nn.elu(self._norm(h))], -1)


class Seeing(snt.Module):
  """A network with a torso of its own, learned as one."""

  def __init__(self, torso: snt.Module, network: snt.Module):
    """Puts them together.

    Args:
      torso: makes features of what is seen.
      network: of these, and of what else it is given.
    """
    super().__init__(name='seeing')
    self._torso = torso
    self._network = network

  def __call__(self, seen: pictures.Seen, *more: tf.Tensor) -> Any:
    """Returns what the network makes of it."""
    return self._network(self._torso(seen), *more)

  def mixture(self, seen: pictures.Seen) -> Any:
    """Returns the mixture of a network that has one."""
    return self._network.mixture(self._torso(seen))

  @property
  def parts(self) -> tuple[snt.Module, snt.Module]:
    """The torso, and the network of its features."""
    return self._torso, self._network


def parts(network: snt.Module) -> tuple[Callable[[Any], Any], snt.Module]:
  """Returns what a network looks with, and what it makes of that.

  For who wants to know what it makes of the same with several actions: most of the time
  goes into looking.

  Args:
    network: with a torso of its own, or without: then it takes what it is given.
  """
  return network.parts if isinstance(network, Seeing) else (_nothing, network)
