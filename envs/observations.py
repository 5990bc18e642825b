"""Observation groups: one spec for all tasks, fixed dtypes.

An observation is a dict of groups. `body` is what the robot knows of itself and is
the same for every task. `objects` holds the pose and velocity of each object of the
task, one after the other. Where they are asked for, there are pictures, too, in a group
for each camera.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import NamedTuple

import dm_env
from dm_env import specs
import numpy as np

from envs import pictures as pictures_lib

Observation = Mapping[str, np.ndarray]

BODY = 'body'
OBJECTS = 'objects'

# Angles as cosine and sine, because four of the arm's joints turn without limit.
_BODY_FIELDS = (
  ('arm_cos', 6),
  ('arm_sin', 6),
  ('fingers', 3),  # rad
  ('arm_velocity', 6),  # rad/s
  ('finger_velocity', 3),  # rad/s
  ('pinch_position', 3),  # m, world frame
  ('pinch_rotation', 6),  # first two rows of the rotation matrix, world frame
)
_OBJECT_FIELDS = (
  ('position', 3),  # m, world frame; the centre of the object's bottom face
  ('orientation', 4),  # unit quaternion with w >= 0
  ('velocity', 3),  # m/s, world frame
  ('angular_velocity', 3),  # rad/s, the object's frame
)


class Field(NamedTuple):
  """Where a named quantity stands in an observation."""

  group: str
  slice: slice


@dataclasses.dataclass(frozen=True)
class Layout:
  """Names for the numbers in the groups.

  `layout.get(observation, 'brick/position')` is a view of three numbers; it works on
  batches of observations too.
  """

  objects: tuple[str, ...]
  """Names of the task's objects, in the order in which they stand in the group; none:
  there is no such group."""
  pictures: pictures_lib.Pictures | None = None
  """What pictures there are; None: none."""

  @functools.cached_property
  def fields(self) -> dict[str, Field]:
    """Every field by name; those of objects are `<object>/<field>`."""
    fields, start = {}, 0
    for name, size in _BODY_FIELDS:
      fields[name] = Field(BODY, slice(start, start + size))
      start += size
    start = 0
    for obj in self.objects:
      for name, size in _OBJECT_FIELDS:
        fields[f'{obj}/{name}'] = Field(OBJECTS, slice(start, start + size))
        start += size
    return fields

  def field(self, name: str) -> Field:
    """Returns the field called `name`.

    Raises:
      ValueError: there is none; the message lists those there are.
    """
    try:
      return self.fields[name]
    except KeyError:
      raise ValueError(
        f'no field {name!r} in the observation; there are {list(self.fields)}'
      ) from None

  def get(self, observation: Observation, name: str) -> np.ndarray:
    """Returns a view, shape (..., size), of a field of (batched) observations."""
    group, part = self.field(name)
    return observation[group][..., part]

  @functools.cached_property
  def sizes(self) -> dict[str, int]:
    """Length of the vector of each group but those of pictures."""
    sizes = {BODY: sum(size for _, size in _BODY_FIELDS)}
    if self.objects:
      sizes[OBJECTS] = len(self.objects) * sum(size for _, size in _OBJECT_FIELDS)
    return sizes

  def spec(self) -> dict[str, specs.Array]:
    """Returns the spec of an observation."""
    vectors = {
      group: specs.Array((size,), np.float32, name=group)
      for group, size in self.sizes.items()
    }
    return {**vectors, **(self.pictures.spec() if self.pictures else {})}


def restart(observation: Observation) -> dm_env.TimeStep:
  """Returns the first timestep of an episode."""
  return dm_env.TimeStep(dm_env.StepType.FIRST, None, None, observation)
