"""Tests of envs.success: poses on either side of each threshold."""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
from typing import cast

import numpy as np
import pytest

from envs import scene as scene_lib
from envs import success

Point = tuple[float, float, float]


@dataclasses.dataclass
class _Scene:
  """Poses instead of physics."""

  objects: dict[str, Point]
  pinch: Point = (0.0, 0.0, 0.0)
  touched: str = ''

  def object_position(self, name: str) -> np.ndarray:
    return np.array(self.objects[name])

  @property
  def pinch_position(self) -> np.ndarray:
    return np.array(self.pinch)

  def touching(self, name: str) -> bool:
    return name == self.touched


def _begin(success_: success.Success, scene: _Scene) -> Callable[[], bool]:
  return success_(cast(scene_lib.Scene, scene))


@pytest.mark.parametrize(
  'height, expected',
  [(0.0, False), (0.0499, False), (0.05, False), (0.0501, True), (0.3, True)],
)
@pytest.mark.parametrize('name', ['brick', 'top'])
def test_lifted(name: str, height: float, expected: bool) -> None:
  scene = _Scene({'other': (0.0, 0.0, 0.5), name: (0.1, -0.2, height)})
  assert _begin(success.lifted(name), scene)() is expected


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
def test_duplo_reached(pinch: Point, expected: bool) -> None:
  scene = _Scene({'duplo': (0.10, 0.20, 0.0)}, pinch)
  assert _begin(success.duplo_reached, scene)() is expected


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
def test_bricks_stacked(offset: Point, touched: str, expected: bool) -> None:
  x, y, z = offset
  objects = {'base': (0.05, -0.1, 0.001), 'top': (0.05 + x, -0.1 + y, 0.001 + z)}
  scene = _Scene(objects, touched=touched)
  assert _begin(success.bricks_stacked, scene)() is expected


def _two(base: Point = (0.0, 0.0, 0.0), top: Point = (0.1, 0.1, 0.0)) -> _Scene:
  return _Scene({'base': base, 'top': top}, pinch=(0.0, 0.0, 0.2))


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({'pinch': (0.0, 0.0, 0.3001)}, True),
    ({'pinch': (0.0, 0.0, 0.2999)}, False),
    ({'pinch': (0.0, -0.1001, 0.2)}, True),
    ({'pinch': (0.06, 0.0, 0.12)}, False),  # Exactly 10 cm.
    ({'pinch': (0.061, 0.0, 0.12)}, True),
    ({'top': (0.1199, 0.1, 0.0)}, True),
    ({'top': (0.1201, 0.1, 0.0)}, False),
    ({'base': (0.0, 0.0, 0.0199)}, True),
    ({'base': (0.0, 0.0, 0.0201)}, False),
  ],
)
def test_hand_brought(changes: dict[str, Point], expected: bool) -> None:
  scene = _two()
  is_success = _begin(success.hand_brought, scene)
  assert not is_success()
  scene.pinch = changes.pop('pinch', (0.0, 0.2, 0.2))
  scene.objects.update(changes)
  assert not is_success()  # It has only just come.
  assert is_success() is expected


@pytest.mark.parametrize('way, expected', [(0.00099, True), (0.00101, False)])
def test_hand_brought_rests(way: float, expected: bool) -> None:
  scene = _two()
  is_success = _begin(success.hand_brought, scene)
  for i in range(4):
    scene.pinch = (0.3, i * way, 0.2)
    assert is_success() is (expected and i > 0)


@pytest.mark.parametrize(
  'name, position, expected',
  [
    ('top', (0.1501, 0.1, 0.0), True),
    ('top', (0.1499, 0.1, 0.0), False),
    ('top', (0.1, 0.0499, 0.0), True),
    ('top', (0.1, 0.0501, 0.0), False),
    ('top', (0.2, 0.1, 0.0039), True),
    ('top', (0.2, 0.1, 0.0041), False),
    ('top', (0.1, 0.1, 0.0), False),
    ('base', (0.03, 0.0399, 0.0), False),
    ('base', (0.03, 0.0401, 0.0), True),
  ],
)
def test_brick_pushed(name: str, position: Point, expected: bool) -> None:
  scene = _two()
  is_success = _begin(success.brick_pushed, scene)
  assert not is_success()
  scene.objects[name] = position
  assert is_success() is expected


@pytest.mark.parametrize(
  'top, base, touched, expected',
  [
    ((0.0, 0.1199, 0.0), (0.0, 0.0, 0.0), '', True),
    ((0.0, 0.1201, 0.0), (0.0, 0.0, 0.0), '', False),
    ((0.0, 0.1, 0.0039), (0.0, 0.0, 0.0), '', True),
    ((0.0, 0.1, 0.0041), (0.0, 0.0, 0.0), '', False),
    ((0.0, 0.1, 0.0), (0.0, -0.0199, 0.0), '', True),
    ((0.0, 0.09, 0.0), (0.0, -0.0201, 0.0), '', False),
    ((0.0, 0.1, 0.0), (0.0, 0.0, 0.0), 'top', False),
    ((0.0, 0.1, 0.0), (0.0, 0.0, 0.0), 'base', True),
  ],
)
@pytest.mark.parametrize('unstack', [False, True])
def test_top_put_beside_the_base(
  top: Point, base: Point, touched: str, expected: bool, unstack: bool
) -> None:
  scene = _two(top=(0.0, 0.0, 0.0238) if unstack else (0.3, 0.1, 0.0))
  done = success.top_unstacked if unstack else success.top_beside
  is_success = _begin(done, scene)
  assert not is_success()
  scene.objects.update(top=top, base=base)
  scene.touched = touched
  # What has been taken off the base may lie anywhere.
  assert is_success() is (expected or (unstack and top[1] > 0.12))


@pytest.mark.parametrize('way, expected', [(0.0301, True), (0.0299, False)])
def test_a_brick_that_was_beside_must_be_moved(way: float, expected: bool) -> None:
  scene = _two(top=(0.1, 0.0, 0.0))
  is_success = _begin(success.top_beside, scene)
  assert not is_success()
  scene.objects['top'] = (0.1, way, 0.0)
  assert is_success() is expected


@pytest.mark.parametrize(
  'start, expected',
  [
    ((0.0149, 0.0, 0.0238), True),
    ((0.0151, 0.0, 0.0238), False),
    ((0.0, 0.0, 0.0269), True),
    ((0.0, 0.0, 0.0271), False),
    ((0.0, 0.0, 0.0159), False),
  ],
)
def test_only_what_is_on_the_base_is_unstacked(start: Point, expected: bool) -> None:
  scene = _two(top=start)
  is_success = _begin(success.top_unstacked, scene)
  scene.objects['top'] = (0.1, 0.0, 0.0)
  assert is_success() is expected


def _wave(turns: Sequence[float]) -> list[bool]:
  """Returns what comes of waving, in steps of 1 mm, between these x."""
  scene = _two()
  is_success = _begin(success.hand_waved, scene)
  seen = []
  for begin, end in itertools.pairwise([0.0, *turns]):
    for x in np.linspace(begin, end, max(2, round(abs(end - begin) / 0.001)))[1:]:
      scene.pinch = (float(x), 0.0, 0.2)
      seen.append(is_success())
  return seen


@pytest.mark.parametrize(
  'turns, expected',
  [
    # From the first side to the other and so on, five times.
    ([0.0501, *[-0.0501, 0.0501] * 3], True),
    ([0.0501, *[-0.0501, 0.0501] * 2, -0.0501], False),
    ([0.11, *[0.0, 0.11] * 2, 0.0], True),
    ([0.11, *[0.0, 0.11] * 2], False),
    ([-0.11, *[0.0, -0.11] * 2, 0.0], True),
    ([0.11, *[0.0102, 0.11] * 5], False),  # 9.98 cm
    ([0.9, -0.9, 0.0, 0.05, 0.0, 0.05, 0.0, 0.05, 0.0], False),
  ],
)
def test_hand_waved(turns: list[float], expected: bool) -> None:
  seen = _wave(turns)
  assert seen[-1] is expected
  assert not seen[0]


def test_having_waved_lasts() -> None:
  seen = _wave([0.08, *[-0.08, 0.08] * 3, 0.0])
  assert seen == sorted(seen)
  assert seen.count(True) > 80


def test_episodes_of_one_scene_have_nothing_in_common() -> None:
  scene = _two()
  first = _begin(success.brick_pushed, scene)
  scene.objects['top'] = (0.2, 0.1, 0.0)
  second = _begin(success.brick_pushed, scene)
  assert first() and not second()
