"""Tests of envs.distances."""

import math

import numpy as np
import pytest
from scipy.spatial import transform

from envs import distances
from tests.envs import observed


def _distance(
  distance: distances.Distance, a: distances.Observation, b: distances.Observation
) -> float:
  function = distance.bind(observed.LAYOUT)
  there, back = float(function(a, b)), float(function(b, a))
  assert there == pytest.approx(back, abs=1e-7)
  return there


def test_euclidean_is_the_length_of_the_difference() -> None:
  distance = distances.Euclidean('brick/position')
  a, b = (
    observed.having(brick__position=[1, 2, 3]),
    observed.having(brick__position=[4, 6, 15]),
  )
  assert _distance(distance, a, b) == 13.0
  assert _distance(distance, a, a) == 0.0


@pytest.mark.parametrize(
  'here, there, expected',
  [
    ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 0.0),
    ([0.3, 0, 0, 0, 0, 0], [0, 0.4, 0, 0, 0, 0], 0.5),
    ([3.1, 0, 0, 0, 0, 0], [-3.1, 0, 0, 0, 0, 0], 2 * math.pi - 6.2),
    ([0, 0, 1, 0, 0, 0], [0, 0, 1 + 4 * math.pi, 0, 0, 0], 0.0),
    ([0, 0, 0, 0, 0, 1.5], [0, 0, 0, 0, 0, -1.5], 3.0),
    ([0.1] * 6, [0.3] * 6, 0.2 * math.sqrt(6)),
  ],
)
def test_angles_turn_the_short_way(
  here: list[float], there: list[float], expected: float
) -> None:
  a, b = (observed.having(arm_cos=np.cos(q), arm_sin=np.sin(q)) for q in (here, there))
  distance = distances.Angles('arm_cos', 'arm_sin')
  assert _distance(distance, a, b) == pytest.approx(expected, abs=1e-6)


def _turn(angle: float, axis: tuple[float, float, float]) -> list[float]:
  return [math.cos(angle / 2), *(math.sin(angle / 2) * np.array(axis))]


@pytest.mark.parametrize('angle', [0.0, 0.001, 0.1, 1.0, math.pi / 2, 3.0, math.pi])
def test_rotation_is_the_angle_between(angle: float) -> None:
  a = observed.having(brick__orientation=_turn(0.3, (0, 0.6, 0.8)))
  b = observed.having(brick__orientation=_turn(0.3 + angle, (0, 0.6, 0.8)))
  minus_b = observed.having(
    brick__orientation=-observed.LAYOUT.get(b, 'brick/orientation')
  )
  distance = distances.Rotation('brick/orientation')
  assert _distance(distance, a, b) == pytest.approx(angle, abs=2e-6)
  assert _distance(distance, a, minus_b) == pytest.approx(angle, abs=2e-6)


def test_between_is_how_much_an_offset_differs() -> None:
  reach = distances.Between('pinch_position', 'brick/position')
  here = observed.having(
    pinch_position=[0.1, 0.2, 0.3], brick__position=[0.1, 0.2, 0.0]
  )
  moved = observed.having(
    pinch_position=[-0.5, 0.1, 0.4], brick__position=[-0.5, 0.1, 0.1]
  )
  assert _distance(reach, here, moved) == pytest.approx(0, abs=1e-6)
  other = observed.having(
    pinch_position=[0.1, 0.2, 0.3], brick__position=[0.13, 0.24, 0.0]
  )
  assert _distance(reach, here, other) == pytest.approx(0.05, abs=1e-6)


def _matrix(
  yaw: float, tilt: float = 0.0, axis: tuple[float, float, float] = (1, 0, 0)
) -> np.ndarray:
  """Returns the first two rows of: tilted about an axis of its own, then turned."""
  turns = transform.Rotation.from_euler('z', yaw)
  tilts = transform.Rotation.from_rotvec(tilt * np.array(axis))
  return (turns * tilts).as_matrix()[:2].ravel()


@pytest.mark.parametrize(
  ('hand', 'brick', 'expected'),
  [
    ((0.0, 0.3), (0.0, 0.3), 0.0),
    ((0.0, 0.3), (0.2, 0.5), 0.0),  # Both are turned.
    ((0.0, 0.3), (0.0, 0.1), 0.2),
    ((0.3, 0.3), (0.0, 0.3), 0.3),
    ((0.0, 3.0), (0.0, -3.0), 2 * math.pi - 6),  # The short way round.
  ],
)
def test_heading_between_is_how_much_they_are_turned_to_each_other(
  hand: tuple[float, float], brick: tuple[float, float], expected: float
) -> None:
  # Each of hand and brick, here and there; the pair is (hand, brick).
  (hand_here, brick_here), (hand_there, brick_there) = hand, brick
  here = observed.having(
    pinch_rotation=_matrix(hand_here), brick__orientation=_turn(brick_here, (0, 0, 1))
  )
  there = observed.having(
    pinch_rotation=_matrix(hand_there), brick__orientation=_turn(brick_there, (0, 0, 1))
  )
  turn = distances.HeadingBetween('pinch_rotation', 'brick/orientation')
  assert _distance(turn, here, there) == pytest.approx(expected, abs=1e-5)


def test_tilt_does_not_see_a_turn_about_the_vertical() -> None:
  tilt = distances.Tilt('pinch_rotation')
  upright = observed.having(pinch_rotation=_matrix(0.0))
  assert _distance(
    tilt, upright, observed.having(pinch_rotation=_matrix(2.0))
  ) == pytest.approx(0, abs=1e-6)
  for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
    tilted = observed.having(pinch_rotation=_matrix(-1.0, 0.1, axis))
    # The chord: one axis sinks by sin(.1), another's height falls by 1 - cos(.1).
    assert _distance(tilt, upright, tilted) == pytest.approx(2 * math.sin(0.05))


def test_height_does_not_see_what_it_is_above() -> None:
  height = distances.Height('brick/position')
  here = observed.having(brick__position=[0.1, -0.2, 0.30])
  assert _distance(height, here, observed.having(brick__position=[0.5, 0.9, 0.30])) == 0
  for there in (0.05, 0.55):
    found = _distance(height, here, observed.having(brick__position=[0.1, -0.2, there]))
    assert found == pytest.approx(0.25)
