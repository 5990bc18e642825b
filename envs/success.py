"""Sparse task rewards: one predicate a task, read off the scene.

dm_control's own rewards are dense, and its stacking reward asks for bricks clicked
together to a millimetre; these say what a person would call done. (Ours.)
"""

import math

from envs import scene as scene_lib

_LIFTED = 0.05  # m above the table
_REACHED = 0.03  # m from the brick's middle
_BRICK_MIDDLE = 0.015  # m above the brick's bottom face, where the hand grasps it
_STACK_OFFSET = 0.015  # m sideways, about half a brick's width
_BRICK_HEIGHTS = (0.016, 0.027)  # m; a brick is 19.2 mm, and may rest on its studs


def brick_lifted(scene: scene_lib.Scene) -> bool:
  """The brick is 5 cm above the table."""
  return bool(scene.object_position('brick')[2] > _LIFTED)


def duplo_reached(scene: scene_lib.Scene) -> bool:
  """The fingertips close around a point within 3 cm of the brick's middle."""
  offset = scene.pinch_position - scene.object_position('duplo')
  offset[2] -= _BRICK_MIDDLE
  return math.sqrt(offset @ offset) < _REACHED


def bricks_stacked(scene: scene_lib.Scene) -> bool:
  """The top brick rests on the base, upright above it, and the hand has let go."""
  x, y, z = scene.object_position('top') - scene.object_position('base')
  low, high = _BRICK_HEIGHTS
  above = math.hypot(x, y) < _STACK_OFFSET and bool(low < z < high)
  return above and not scene.touching('top')
