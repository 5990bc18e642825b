"""Pictures -> numbers: the convolutions, and what is done to pictures before them."""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from metamimic.networks import features as features_lib

_PATCH = 4  # Pixels; side of what the first convolution sees.
_DIFFERENCE = 3.0  # How much goals are enlarged, as differences to the present.


class Shown(NamedTuple):
  """What there is to be seen, as cameras make it."""

  features: tf.Tensor
  """(B, F) float32."""
  pixels: tf.Tensor
  """(B, height, width, C) uint8."""
  goal_pixels: tf.Tensor | None
  """(B, K, height, width, C) uint8; None: no goal is shown."""


class Seen(NamedTuple):
  """What a network is given that sees pictures."""

  features: tf.Tensor
  """(B, F) float32."""
  pictures: tf.Tensor
  """(B, height, width, C * (1 + K)) float32; see `compare`."""


def look(shown: Any, pixels: int = 0, seed: tf.Tensor | None = None) -> Any:
  """Returns what a network is given of what is shown, with its pictures moved.

  Each is moved by a random whole number of pixels, and its edge repeated; the goal is
  moved with it. After Kostrikov et al. 2020, who do so with what is seen.

  Args:
    shown: `Shown`; features alone, (B, F), are returned as they are.
    pixels: pictures move at most so far, in each direction; 0: not at all.
    seed: int64, (2,); the same one moves them the same way. Not needed for 0.
  """
  if tf.is_tensor(shown):
    return shown
  features, now, goal = shown
  if not pixels:
    return Seen(features, _compare(now, goal))
  # Drawn outside of what is compiled, where each device has another generator.
  by = tf.random.stateless_uniform(
    [2, now.shape[0]], seed, -pixels, pixels + 1, dtype=tf.int32
  )
  return Seen(features, _compare_moved(now, goal, by))


def compare(pixels: tf.Tensor, goal_pixels: tf.Tensor | None) -> tf.Tensor:
  """Returns the present and, as differences to it, what shall be.

  What a goal tells is motion and displacement, which show in the difference. (Ours.)

  Args:
    pixels: uint8, (B, height, width, C).
    goal_pixels: uint8, (B, K, height, width, C); None: no goal is shown.

  Returns:
    (B, height, width, C * (1 + K)) float32, the present in [-.5, .5].
  """
  now = tf.cast(pixels, tf.float32) / 255
  parts = [now - 0.5]
  if goal_pixels is not None:
    goals = tf.cast(goal_pixels, tf.float32) / 255
    parts += [_DIFFERENCE * (goal - now) for goal in tf.unstack(goals, axis=1)]
  return tf.concat(parts, -1)


def shift(pictures: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Moves pictures; their edges are repeated.

  Args:
    pictures: (B, height, width, channels).
    by: int32, (2, B); how far down and right of a pixel its value is read. Positive
      ones move a picture up and left.
  """
  _, height, width, _ = pictures.shape
  rows = tf.clip_by_value(tf.range(height)[None] + by[0, :, None], 0, height - 1)
  columns = tf.clip_by_value(tf.range(width)[None] + by[1, :, None], 0, width - 1)
  moved = tf.gather(pictures, rows, axis=1, batch_dims=1)
  return tf.gather(moved, columns, axis=2, batch_dims=1)


# Compiled, because this would be half of an update's time: one pass over the pictures
# where there are ten.
_compare = tf.function(compare, autograph=False, jit_compile=True)


@functools.partial(tf.function, autograph=False, jit_compile=True)
def _compare_moved(
  pixels: tf.Tensor, goal_pixels: tf.Tensor | None, by: tf.Tensor
) -> tf.Tensor:
  return shift(compare(pixels, goal_pixels), by)


class Encoder(snt.Module):
  """Seen -> features, the pictures' among them.

  If it decodes, it also tells from the pictures how far the body is from the goal, and
  that is among the features as it would be for a policy that is told.
  """

  def __init__(
    self,
    filters: Sequence[int],
    embedding: int,
    normalise: bool,
    decoded: tuple[int, int] | None = None,
  ):
    """Makes the layers.

    Args:
      filters: of each convolution.
      embedding: numbers that they make of pictures.
      normalise: layer normalisation of these.
      decoded: K and D of the differences that it decodes; None: it decodes nothing.
    """
    super().__init__(name='encoder')
    first, *others = filters
    # Patches that do not overlap: the cheapest first layer there is.
    self._convolutions = [snt.Conv2D(first, _PATCH, _PATCH, padding='VALID')] + [
      snt.Conv2D(n, 3, 2, padding='VALID') for n in others
    ]
    self._last = snt.Linear(embedding)
    self._norm = snt.LayerNorm(-1, True, True) if normalise else None
    self._decoded = decoded
    if decoded:
      ahead, size = decoded
      self._decoder = snt.nets.MLP([embedding, ahead * size], activation=tf.nn.elu)

  def __call__(self, seen: Seen) -> tf.Tensor:
    """Returns features, (B, F')."""
    return self.decode(seen)[0]

  def decode(self, seen: Seen) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns features, (B, F'), and decoded differences, (B, K, D), if it decodes."""
    h = seen.pictures
    for convolution in self._convolutions:
      h = tf.nn.elu(convolution(h))
    h = self._last(snt.flatten(h))
    h = tf.tanh(h if self._norm is None else self._norm(h))
    features = tf.concat([seen.features, h], -1)
    if self._decoded is None:
      return features, None
    difference = tf.reshape(self._decoder(features), [-1, *self._decoded])
    # What it tells is learned from what is so, and not from what would be of use.
    told = features_lib.two_scales(tf.stop_gradient(difference))
    return tf.concat([features, told], -1), difference

  def tell(self, features: tf.Tensor, difference: tf.Tensor) -> tf.Tensor:
    """Returns features with what is so in the place of what was decoded.

    Args:
      features: as returned by an encoder that decodes, (B, F').
      difference: (B, K, D).
    """
    told = features_lib.two_scales(difference)
    return tf.concat([features[:, : -told.shape[1]], told], -1)


@snt.allow_empty_variables
class NoEncoder(snt.Module):
  """Features -> the same, where there are no pictures; it has nothing to learn."""

  def __init__(self) -> None:
    """Makes nothing."""
    super().__init__(name='no_encoder')

  def __call__(self, features: tf.Tensor) -> tf.Tensor:
    """Returns features."""
    return features

  def decode(self, features: tf.Tensor) -> tuple[tf.Tensor, None]:
    """Returns features, and that nothing was decoded."""
    return features, None
