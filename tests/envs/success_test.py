"""Tests of envs.success: poses on either side of each threshold."""

from collections.abc import Mapping
import dataclasses
from typing import cast

import numpy as np
import pytest

from envs import scene as scene_lib
from envs import success


@dataclasses.dataclass
class _Scene:
  """Poses instead of physics."""

  objects: Mapping[str, tuple[float, float, float]]
  pinch: tuple[float, float, float] = (0.0, 0.0, 0.0)
  touched: str = ''

  def object_position(self, name: str) -> np.ndarray:
    return np.array(self.objects[name])

  @property
  def pinch_position(self) -> np.ndarray:
    return np.array(self.pinch)

  def touching(self, name: str) -> bool:
    return name == self.touched


def _scene(
  objects: Mapping[str, tuple[float, float, float]],
  pinch: tuple[float, float, float] = (0.0, 0.0, 0.0),
  touched: str = '',
) -> scene_lib.Scene:
  return cast(scene_lib.Scene, _Scene(objects, pinch, touched))


@pytest.mark.parametrize(
  'height, expected',
  [(0.0, False), (0.0499, False), (0.05, False), (0.0501, True), (0.3, True)],
)
def test_brick_lifted(height: float, expected: bool) -> None:
  assert success.brick_lifted(_scene({'brick': (0.1, -0.2, height)})) is expected


@pytest.mark.parametrize(
  'pinch, expected',
  [
    ((0.10, 0.20, 0.015), True),  # The middle of the brick.
    ((0.1299, 0.20, 0.015), True),
    ((0.1301, 0.20, 0.015), False),
    ((0.10, 0.1701, 0.015), True),
    ((0.10, 0.1699, 0.015), False),
    ((0.10, 0.20, 0.0449), True),
    ((0.10, 0.20, 0.0451), False),
    ((0.117, 0.217, 0.032), True),  # 2.94 cm
    ((0.118, 0.218, 0.033), False),  # 3.12 cm
  ],
)
def test_duplo_reached(pinch: tuple[float, float, float], expected: bool) -> None:
  assert success.duplo_reached(_scene({'duplo': (0.10, 0.20, 0.0)}, pinch)) is expected


@pytest.mark.parametrize(
  'offset, touched, expected',
  [
    ((0.0, 0.0, 0.0192), '', True),  # Clicked.
    ((0.0, 0.0, 0.0238), '', True),  # On the studs.
    ((0.0, 0.0, 0.0161), '', True),
    ((0.0, 0.0, 0.0159), '', False),
    ((0.0, 0.0, 0.0269), '', True),
    ((0.0, 0.0, 0.0271), '', False),
    ((0.0149, 0.0, 0.02), '', True),
    ((0.0151, 0.0, 0.02), '', False),
    ((0.0, -0.0149, 0.02), '', True),
    ((0.0, -0.0151, 0.02), '', False),
    ((0.0105, 0.0105, 0.02), '', True),  # 14.8 mm
    ((0.0107, 0.0107, 0.02), '', False),  # 15.1 mm
    ((0.0, 0.0, -0.02), '', False),  # The base lies on the top brick.
    ((0.0, 0.0, 0.02), 'top', False),  # Not let go.
    ((0.0, 0.0, 0.02), 'base', True),
  ],
)
def test_bricks_stacked(
  offset: tuple[float, float, float], touched: str, expected: bool
) -> None:
  x, y, z = offset
  objects = {'base': (0.05, -0.1, 0.001), 'top': (0.05 + x, -0.1 + y, 0.001 + z)}
  assert success.bricks_stacked(_scene(objects, touched=touched)) is expected
