"""Distances between pictures, to be declared as terms of a reward; see `rewards`.

Where pictures are compared box by box, they are of full scale 1, and averaged over
the boxes first, so that what is next to where it should be is nearer than what is
elsewhere.
"""

import dataclasses

import numpy as np

from envs import distances
from envs import observations
from envs import pictures

_CHANNELS = ('red', 'green', 'blue')
_FULL = 510  # As much of a colour as a pixel can have.


def average(values: np.ndarray, box: int) -> np.ndarray:
  """Returns the means over boxes.

  Args:
    values: (..., height, width), integers; box must divide height and width.
    box: side of a box.

  Returns:
    float32, (..., height / box, width / box).
  """
  # By strides: many times as fast as a mean over two short axes.
  total = np.zeros((*values.shape[:-2], *(n // box for n in values.shape[-2:])), int)
  for row in range(box):
    for column in range(box):
      total += values[..., row::box, column::box]
  return total.astype(np.float32) / np.float32(box * box)


def colour(picture: np.ndarray, channel: str) -> np.ndarray:
  """Returns how much of a colour there is; grey of any brightness has none.

  Args:
    picture: uint8, (..., height, width, 3).
    channel: red, green or blue.

  Returns:
    Integers from 0 to 510, (..., height, width).
  """
  index = _CHANNELS.index(channel)
  wanted, *others = np.moveaxis(
    np.roll(picture, -index, axis=-1).astype(np.int16), -1, 0
  )
  return np.maximum(2 * wanted - others[0] - others[1], 0)


def _rms(difference: np.ndarray, axes: int) -> np.ndarray:
  return np.sqrt(np.mean(np.square(difference), axis=tuple(range(-axes, 0))))


def _group(layout: observations.Layout, camera: str, box: int) -> str:
  """Returns the group of a camera's pictures.

  Raises:
    ValueError: there are none, or boxes do not divide them.
  """
  cameras = layout.pictures.cameras if layout.pictures else ()
  if layout.pictures is None or camera not in cameras:
    raise ValueError(
      f'no pictures of camera {camera!r} in the observation; there are {cameras}'
    )
  if any(n % box for n in layout.pictures.size):
    raise ValueError(
      f'pictures have size {layout.pictures.size}; expected multiples of {box}'
    )
  return pictures.group(camera)


def _check_channel(channel: str) -> None:
  if channel not in _CHANNELS:
    raise ValueError(f'channel is {channel!r}; expected one of {_CHANNELS}')


@dataclasses.dataclass(frozen=True)
class Picture:
  """Root of the mean square difference of all three colours.

  The arm, which is large, decides on it: an object in a wrong place adds little.
  """

  camera: str
  box: int = 2
  """Side of the boxes, pixels."""

  def bind(self, layout: observations.Layout) -> distances.DistanceFunction:
    """See `distances.Distance`."""
    group, box = _group(layout, self.camera, self.box), self.box

    def distance(
      observation: distances.Observation, goal: distances.Observation
    ) -> np.ndarray:
      here, there = (
        average(np.moveaxis(o[group], -1, -3), box) for o in (observation, goal)
      )
      return _rms((there - here) / 255, 3)

    return distance


@dataclasses.dataclass(frozen=True)
class Colour:
  """Root of the mean square difference of how much there is of one colour.

  The grey arm and the floor do not enter it, but by what they hide.
  """

  camera: str
  channel: str
  """Colour of the object: red, green or blue."""
  box: int = 4
  """Side of the boxes, pixels."""

  def bind(self, layout: observations.Layout) -> distances.DistanceFunction:
    """See `distances.Distance`."""
    _check_channel(self.channel)
    group, box = _group(layout, self.camera, self.box), self.box

    def distance(
      observation: distances.Observation, goal: distances.Observation
    ) -> np.ndarray:
      here, there = (
        average(colour(o[group], self.channel), box) for o in (observation, goal)
      )
      return _rms((there - here) / _FULL, 2)

    return distance


@dataclasses.dataclass(frozen=True)
class ColourCentroid:
  """Distance between the centroids of one colour, as a share of the picture's height.

  It goes on growing where an object and its place have nothing in common any more.
  From a camera in the hand, it is how far an object is from where it shall be to the
  hand, wherever both are.
  """

  camera: str
  channel: str
  """Colour of the object: red, green or blue. If only one of both pictures has a whole
  pixel's worth of it, they are as far apart as the picture is high."""

  def bind(self, layout: observations.Layout) -> distances.DistanceFunction:
    """See `distances.Distance`."""
    _check_channel(self.channel)
    group = _group(layout, self.camera, 1)

    def distance(
      observation: distances.Observation, goal: distances.Observation
    ) -> np.ndarray:
      (here, seen), (there, shown) = (
        _centroid(colour(o[group], self.channel)) for o in (observation, goal)
      )
      apart = np.sqrt(np.sum(np.square(there - here), axis=-1))
      # Far, lest it pay to look away.
      return np.where(seen & shown, apart, (seen | shown).astype(np.float32))

    return distance


def _centroid(amount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns where the centroid of a colour is, and whether there is enough of it.

  Args:
    amount: of `colour`, (..., height, width).

  Returns:
    Row and column, as shares of the height, float32 (..., 2), and bool, (...).
  """
  height, width = amount.shape[-2:]
  rows, columns = amount.sum(-1), amount.sum(-2)
  total = rows.sum(-1)
  moments = np.stack([rows @ np.arange(height), columns @ np.arange(width)], -1)
  scale = height * np.maximum(total, 1)[..., None]
  return (moments / scale).astype(np.float32), total >= _FULL
