"""Sparse task rewards: when a skill is done, read off the scene.

dm_control's own rewards are dense, and its stacking reward asks for bricks clicked
together to a millimetre; these say what a person would call done. (Ours.)

None knows what a demonstrator meant to do: where a brick was to go, say. They judge by
the scene as it is and as it was when the episode began.
"""

from collections.abc import Callable
import math

import numpy as np

from envs import scene as scene_lib

Success = Callable[[scene_lib.Scene], Callable[[], bool]]
"""Called where an episode begins; returns what tells, asked once after every control
step, whether the scene is in a success state."""

_LIFTED = 0.05  # m above the table
_REACHED = 0.03  # m from the brick's middle
_BRICK_MIDDLE = 0.015  # m above the brick's bottom face, where the hand grasps it
_STACK_OFFSET = 0.015  # m sideways, about half a brick's width
_BRICK_HEIGHTS = (0.016, 0.027)  # m; a brick is 19.2 mm, and may rest on its studs
_BROUGHT = 0.10  # m from where the hand was
_RESTS = 0.001  # m that the hand moves in a control step, at 2.5 cm/s
_FLAT = 0.004  # m above the table; a brick on its side or on its studs is higher
_PUSHED = 0.05  # m
_LEFT_ALONE = 0.02  # m
_BESIDE = 0.12  # m between the bricks' middles, some 8 cm from side to side
_PUT = 0.03  # m from where the brick was
_SWING = 0.10  # m from one side to the other: 5 cm about the middle
_SWINGS = 5


def lifted(name: str) -> Success:
  """Returns success of lifting an object: it is 5 cm above the table."""

  def begin(scene: scene_lib.Scene) -> Callable[[], bool]:
    return lambda: bool(scene.object_position(name)[2] > _LIFTED)

  return begin


def duplo_reached(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The fingertips close around a point within 3 cm of the brick's middle."""

  def is_success() -> bool:
    offset = scene.pinch_position - scene.object_position('duplo')
    offset[2] -= _BRICK_MIDDLE
    return math.sqrt(offset @ offset) < _REACHED

  return is_success


def bricks_stacked(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The top brick rests on the base, upright above it, and the hand has let go."""
  return lambda: _is_on_base(scene) and not scene.touching('top')


def hand_brought(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The hand rests more than 10 cm from where it was, and neither brick has moved.

  It rests where it moves by less than a millimetre in a control step (2.5 cm/s), and a
  brick has moved where it is 2 cm from where it was.
  """
  start = last = scene.pinch_position
  base_left_alone = _left_alone(scene, 'base')
  top_left_alone = _left_alone(scene, 'top')

  def is_success() -> bool:
    nonlocal last
    moved, last = scene.pinch_position - last, scene.pinch_position
    way = last - start
    return (
      math.sqrt(moved @ moved) < _RESTS
      and math.sqrt(way @ way) > _BROUGHT
      and base_left_alone()
      and top_left_alone()
    )

  return is_success


def brick_pushed(scene: scene_lib.Scene) -> Callable[[], bool]:
  """A brick lies flat on the table, more than 5 cm from where it was."""
  starts = {name: scene.object_position(name) for name in ('base', 'top')}

  def is_success() -> bool:
    for name, start in starts.items():
      position = scene.object_position(name)
      if position[2] < _FLAT and _sideways(position, start) > _PUSHED:
        return True
    return False

  return is_success


def top_beside(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The top brick has been put on the table, within 12 cm of the base.

  It is more than 3 cm from where it was, the base less than 2 cm, and the hand has let
  go.
  """
  start = scene.object_position('top')
  base_left_alone = _left_alone(scene, 'base')

  def is_success() -> bool:
    top = scene.object_position('top')
    return (
      bool(top[2] < _FLAT)
      and _sideways(top, scene.object_position('base')) < _BESIDE
      and _sideways(top, start) > _PUT
      and base_left_alone()
      and not scene.touching('top')
    )

  return is_success


def top_unstacked(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The top brick, which was on the base, has been put on the table.

  The base is less than 2 cm from where it was, and the hand has let go.
  """
  was_stacked = _is_on_base(scene)
  base_left_alone = _left_alone(scene, 'base')

  def is_success() -> bool:
    return (
      was_stacked
      and bool(scene.object_position('top')[2] < _FLAT)
      and base_left_alone()
      and not scene.touching('top')
    )

  return is_success


def hand_waved(scene: scene_lib.Scene) -> Callable[[], bool]:
  """The hand has changed sides five times, along the world's x.

  It changes sides where it comes more than 10 cm from where it last turned back, which
  is 5 cm about the middle. How it came to the first side does not count.
  """
  low = high = float(scene.pinch_position[0])
  side, changes = 0, 0  # -1 and 1 are sides; 0 is neither, at first.

  def is_success() -> bool:
    nonlocal low, high, side, changes
    x = float(scene.pinch_position[0])
    low, high = min(low, x), max(high, x)
    if side <= 0 and x - low > _SWING:
      changes, side, high = changes + (side != 0), 1, x
    elif side >= 0 and high - x > _SWING:
      changes, side, low = changes + (side != 0), -1, x
    return changes >= _SWINGS

  return is_success


def _is_on_base(scene: scene_lib.Scene) -> bool:
  x, y, z = scene.object_position('top') - scene.object_position('base')
  low, high = _BRICK_HEIGHTS
  return math.hypot(x, y) < _STACK_OFFSET and bool(low < z < high)


def _left_alone(scene: scene_lib.Scene, name: str) -> Callable[[], bool]:
  """Returns what tells whether an object is within 2 cm of where it is now."""
  start = scene.object_position(name)

  def is_left_alone() -> bool:
    offset = scene.object_position(name) - start
    return math.sqrt(offset @ offset) < _LEFT_ALONE

  return is_left_alone


def _sideways(position: np.ndarray, other: np.ndarray) -> float:
  return math.hypot(position[0] - other[0], position[1] - other[1])
