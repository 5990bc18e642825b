"""Tests of envs.picture_distances, and of the reward that is declared with it."""

from collections.abc import Iterator
import math

import mujoco
import numpy as np
import pytest

from envs import distances
from envs import observations
from envs import picture_distances
from envs import pictures
from envs import reward_library
from envs import rewards
from envs import stepping
from envs import tasks
from tests.envs import conftest

_PICTURES = pictures.Pictures(height=8, width=8)
_LAYOUT = observations.Layout(('brick',), _PICTURES)
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])
_GREY, _RED = (90, 90, 90), (190, 90, 90)


def _observation(*pixels: tuple[int, int, tuple[int, int, int]]) -> dict:
  """Returns a grey picture with some pixels, (row, column, colour), set."""
  picture = np.full((8, 8, 3), _GREY, np.uint8)
  for row, column, value in pixels:
    picture[row, column] = value
  return {'pixels/front': picture}


def test_average_is_the_mean_of_each_box() -> None:
  values = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 12))
  expected = values.reshape(5, 3, 2, 4, 3, 4).mean((-3, -1))
  found = picture_distances.average(values, 4)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'pixel, channel, expected',
  [
    ((255, 0, 0), 'red', 510),
    ((0, 255, 0), 'green', 510),
    ((0, 0, 255), 'blue', 510),
    ((0, 255, 0), 'red', 0),
    ((200, 100, 50), 'red', 250),
    ((10, 10, 10), 'red', 0),
    ((255, 255, 255), 'green', 0),
  ],
)
def test_colour_is_what_a_channel_has_beyond_the_others(
  pixel: tuple[int, int, int], channel: str, expected: int
) -> None:
  picture = np.array(pixel, np.uint8)[None, None]
  assert picture_distances.colour(picture, channel) == expected


def test_picture_is_the_rms_over_boxes() -> None:
  distance = picture_distances.Picture('front').bind(_LAYOUT)
  # One of 16 boxes is (100, 0, 0) / 4 brighter, in one of three colours.
  found = distance(_observation((0, 0, _RED)), _observation())
  assert found == pytest.approx(25 / 255 / math.sqrt(16 * 3), rel=1e-6)
  # Within its box a pixel may be anywhere.
  assert distance(_observation((0, 0, _RED)), _observation((1, 1, _RED))) == 0


def test_colour_distance_is_the_rms_over_boxes() -> None:
  distance = picture_distances.Colour('front', 'red').bind(_LAYOUT)
  # One of four boxes has one red pixel of 16, 200 of 510.
  found = distance(_observation((5, 6, _RED)), _observation())
  assert found == pytest.approx(200 / 16 / 510 / math.sqrt(4), rel=1e-6)
  black = [(row, column, (0, 0, 0)) for row in range(8) for column in range(5)]
  assert distance(_observation(*black), _observation()) == 0  # As a grey arm.


def test_colour_centroid_is_how_far_they_are_apart() -> None:
  distance = picture_distances.ColourCentroid('front', 'red').bind(_LAYOUT)
  bright = (255, 0, 0)
  # Weighted by how much of the colour there is: 510 in (1, 2), 200 in (5, 2).
  two = _observation((1, 2, bright), (5, 2, _RED))
  row = (510 * 1 + 200 * 5) / 710
  one = _observation((4, 7, bright))
  expected = math.hypot(row - 4, 2 - 7) / 8
  assert distance(two, one) == pytest.approx(expected, rel=1e-6)
  assert distance(one, one) == 0
  # Less than a whole pixel's worth is too little to be sure of.
  faint = _observation((1, 2, _RED))
  assert distance(one, faint) == distance(faint, one) == 1
  assert distance(faint, _observation()) == 0


@pytest.mark.parametrize(
  'declared',
  [
    picture_distances.Picture('front'),
    picture_distances.Colour('front', 'red'),
    picture_distances.ColourCentroid('front', 'red'),
  ],
)
def test_batched_distances_equal_single_ones(declared: distances.Distance) -> None:
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 256, (2, 5, 8, 8, 3), np.uint8)
  a[0] = 90  # Where no colour is.
  distance = declared.bind(_LAYOUT)
  batched = distance({'pixels/front': a}, {'pixels/front': b})
  assert batched.shape == (5,) and batched.dtype == np.float32
  for i in range(5):
    one = distance({'pixels/front': a[i]}, {'pixels/front': b[i]})
    assert one == pytest.approx(batched[i], rel=1e-6)


@pytest.mark.parametrize(
  'declared, layout, message',
  [
    (
      picture_distances.Picture('front'),
      observations.Layout(('brick',)),
      r"no pictures of camera 'front' in the observation; there are \(\)",
    ),
    (
      picture_distances.Colour('side', 'red'),
      _LAYOUT,
      r"no pictures of camera 'side' in the observation; there are \('front',\)",
    ),
    (
      picture_distances.Picture('front', 3),
      _LAYOUT,
      r'pictures have size \(8, 8\); expected multiples of 3',
    ),
    (
      picture_distances.Colour('front', 'pink'),
      _LAYOUT,
      r"channel is 'pink'; expected one of \('red', 'green', 'blue'\)",
    ),
    (
      picture_distances.ColourCentroid('front', 'pink'),
      _LAYOUT,
      r"channel is 'pink'; expected one of \('red', 'green', 'blue'\)",
    ),
    (
      picture_distances.ColourCentroid('wrist', 'red'),
      _LAYOUT,
      r"no pictures of camera 'wrist' in the observation; there are \('front',\)",
    ),
  ],
)
def test_what_cannot_be_bound_is_refused(
  declared: distances.Distance, layout: observations.Layout, message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    declared.bind(layout)


@pytest.fixture(scope='module')
def env() -> Iterator[stepping.ManipulationEnvironment]:
  environment = tasks.load('lift_brick', 0, pictures.Pictures(('front', 'wrist')))
  environment.reset()
  yield environment
  environment.close()


@pytest.mark.parametrize(
  'declared',
  [
    reward_library.LIFT_BRICK_PIXELS,
    reward_library.LIFT_BRICK_PIXELS_WRIST,
    reward_library.LIFT_BRICK_PIXELS_RELATIVE,
  ],
)
def test_rewards_from_pictures_see_no_pose(
  env: stepping.ManipulationEnvironment, declared: rewards.Reward
) -> None:
  reward = declared.bind(env.layout)
  observation, goal = env.observe(), env.advance(np.full(9, 0.3))
  expected = reward.distances(observation, goal)
  assert all(distance > 0 for distance in expected[:4])
  for seen in (observation, goal):
    del seen['objects']
  assert reward.distances(observation, goal) == expected


def test_the_relative_reward_is_the_same_wherever_hand_and_brick_are(
  env: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  reward = reward_library.LIFT_BRICK_PIXELS_RELATIVE.bind(env.layout)
  names = [term.name for term in reward.terms]

  def beside(turn: float, offset: float) -> dict[str, np.ndarray]:
    """Turns the arm about the vertical, with the brick `offset` off its middle."""
    env.reset(seed=1)
    env.physics.data.ptr.qpos[0] += turn
    mujoco.mj_forward(env.physics.model.ptr, env.physics.data.ptr)
    x, y, _ = env.scene.pinch_position + offset * env.scene.pinch_rotation[:, 0]
    place(env, 'brick', np.array([x, y, 0.0]), _UPRIGHT)
    return env.observe()

  def measured(a: dict, b: dict) -> dict[str, float]:
    return dict(zip(names, map(float, reward.distances(a, b)), strict=True))

  there = beside(0.0, 0.0)
  moved = measured(beside(0.5, 0.0), there)
  displaced = measured(beside(0.5, 0.04), there)
  assert moved['height'] < 1e-4 and moved['tilt'] < 1e-4 and moved['fingers'] < 1e-4
  assert moved['centroid'] < 0.02
  assert displaced['centroid'] > 3 * moved['centroid'] + 0.03


def test_colour_sees_a_brick_that_is_elsewhere_and_not_the_arm(
  env: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  reward = reward_library.LIFT_BRICK_PIXELS.bind(env.layout)
  names = [term.name for term in reward.terms]

  def measured(a: dict, b: dict) -> dict[str, float]:
    return dict(zip(names, map(float, reward.distances(a, b)), strict=True))

  env.reset(seed=1)
  before = env.observe()
  place(env, 'brick', env.scene.object_position('brick') + [0, 0, 0.1], _UPRIGHT)
  lifted = measured(before, env.observe())
  env.reset(seed=1)
  for _ in range(5):
    moved = env.advance(np.array([0.5] * 6 + [0] * 3))
  arm = measured(before, moved)
  assert arm['arm'] > 0.1
  assert lifted['arm'] == 0
  assert lifted['colour'] > 20 * arm['colour']
  assert lifted['picture'] < arm['picture']
