"""Distances between what is observed and what was to be, to declare rewards with.

Those between pictures are in `picture_distances`.
"""

from collections.abc import Callable
import dataclasses
from typing import Protocol

import numpy as np

from envs import observations

Observation = observations.Observation
DistanceFunction = Callable[[Observation, Observation], np.ndarray]
"""(Batched) observation and goal -> how far apart they are, shape (...)."""


class Distance(Protocol):
  """How far an observation is from a goal."""

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """Returns the distance for observations laid out so, over the last axis."""


def _norm(difference: np.ndarray) -> np.ndarray:
  if difference.ndim == 1:  # As in an actor's every step; einsum is slow at it.
    return np.sqrt(difference.dot(difference))
  return np.sqrt(np.einsum('...i,...i->...', difference, difference))


@dataclasses.dataclass(frozen=True)
class Euclidean:
  """Distance between vectors, in the field's own unit."""

  field: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    group, part = layout.field(self.field)
    return lambda observation, goal: _norm(
      goal[group][..., part] - observation[group][..., part]
    )


@dataclasses.dataclass(frozen=True)
class Angles:
  """Norm of the differences, in rad, between angles kept as cosines and sines."""

  cos: str
  sin: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    group, cos = layout.field(self.cos)
    sin_group, sin = layout.field(self.sin)

    def distance(observation: Observation, goal: Observation) -> np.ndarray:
      c, goal_c = observation[group][..., cos], goal[group][..., cos]
      s, goal_s = observation[sin_group][..., sin], goal[sin_group][..., sin]
      return _norm(np.arctan2(goal_s * c - goal_c * s, goal_c * c + goal_s * s))

    return distance


@dataclasses.dataclass(frozen=True)
class Rotation:
  """Angle, in rad, of the rotation between two unit quaternions."""

  field: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    group, part = layout.field(self.field)

    def distance(observation: Observation, goal: Observation) -> np.ndarray:
      a, b = observation[group][..., part], goal[group][..., part]
      # The chord, because arccos loses small angles in float32.
      chord = np.minimum(_norm(a - b), _norm(a + b))
      return 4 * np.arcsin(np.minimum(chord / 2, 1))

    return distance


@dataclasses.dataclass(frozen=True)
class Height:
  """Difference of how high positions are, in m, wherever they are above."""

  field: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    group, part = layout.field(self.field)
    return lambda observation, goal: np.abs(
      goal[group][..., part][..., 2] - observation[group][..., part][..., 2]
    )


@dataclasses.dataclass(frozen=True)
class Between:
  """Distance between offsets from one position to another, in m.

  It is 0 wherever both are, as long as they are to each other as in the goal.
  """

  start: str
  end: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    (group, start), (end_group, end) = layout.field(self.start), layout.field(self.end)

    def offset(observation: Observation) -> np.ndarray:
      return observation[end_group][..., end] - observation[group][..., start]

    return lambda observation, goal: _norm(offset(goal) - offset(observation))


@dataclasses.dataclass(frozen=True)
class HeadingBetween:
  """Difference, in rad, of how two things are turned to each other.

  Turned about the vertical, that is. Each is a field of quaternions, or of a rotation
  matrix's first two rows.
  """

  start: str
  end: str

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    fields = layout.field(self.start), layout.field(self.end)

    def between(observation: Observation) -> np.ndarray:
      start, end = (observation[group][..., part] for group, part in fields)
      return _heading(end) - _heading(start)

    def distance(observation: Observation, goal: Observation) -> np.ndarray:
      difference = between(goal) - between(observation)
      return np.abs((difference + np.pi) % (2 * np.pi) - np.pi)

    return distance


def _heading(rotation: np.ndarray) -> np.ndarray:
  if rotation.shape[-1] == 6:
    return np.arctan2(rotation[..., 3], rotation[..., 0])
  w, x, y, z = np.moveaxis(rotation, -1, 0)
  return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


@dataclasses.dataclass(frozen=True)
class Tilt:
  """Difference of how the three axes of the hand stand to the vertical.

  It is 0 wherever the hand is and however it is turned about the vertical.
  """

  field: str
  """A rotation matrix's first two rows."""

  def bind(self, layout: observations.Layout) -> DistanceFunction:
    """See `Distance`."""
    group, part = layout.field(self.field)

    def heights(observation: Observation) -> np.ndarray:
      # The matrix's third row, which is the cross product of the others.
      rows = observation[group][..., part]
      return (
        rows[..., [1, 2, 0]] * rows[..., [5, 3, 4]]
        - rows[..., [2, 0, 1]] * rows[..., [4, 5, 3]]
      )

    return lambda observation, goal: _norm(heights(goal) - heights(observation))
