"""Tests of pictures as observations: envs.pictures, and what draws them."""

from collections.abc import Iterator
import subprocess
import sys
import zlib

from dm_env import test_utils
import numpy as np
import pytest

from envs import disturbances
from envs import imitation
from envs import observations
from envs import pictures
from envs import stepping
from envs import tasks
from tests.envs import conftest

_BOTH = pictures.Pictures(('front', 'side'), 48, 64)
_GROUPS = ('pixels/front', 'pixels/side')
_SQUARE = pictures.Pictures(('front', 'side'))
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope='module', params=sorted(tasks.TASKS))
def seen(request: pytest.FixtureRequest) -> Iterator[stepping.ManipulationEnvironment]:
  """Every registered task in turn, with pictures."""
  environment = tasks.load(request.param, seed=3, pictures=_SQUARE)
  environment.reset()
  yield environment
  environment.close()


def _colour(picture: np.ndarray, channel: int) -> np.ndarray:
  """Returns how much of a channel there is beyond the others, (height, width)."""
  values = picture.astype(float)
  others = np.delete(values, channel, axis=-1)
  return values[..., channel] - others.mean(-1)


class _Contract(test_utils.EnvironmentTestMixin):
  """dm_env's own checks."""

  task: str

  def make_object_under_test(self) -> stepping.ManipulationEnvironment:
    return tasks.load(self.task, 0, pictures.Pictures(height=8, width=8))

  def make_action_sequence(self) -> Iterator[np.ndarray]:
    for _ in range(5):
      yield np.zeros(9, np.float32)


globals().update(conftest.for_every_task(_Contract))


def test_every_task_has_its_contract_checked() -> None:
  assert {test.task for test in _Contract.__subclasses__()} == set(tasks.TASKS)


def test_spec_has_a_group_for_each_camera() -> None:
  layout = observations.Layout(('brick',), _BOTH)
  assert {k: (v.shape, v.dtype, v.name) for k, v in layout.spec().items()} == {
    'body': ((33,), np.float32, 'body'),
    'objects': ((13,), np.float32, 'objects'),
    'pixels/front': ((48, 64, 3), np.uint8, 'pixels/front'),
    'pixels/side': ((48, 64, 3), np.uint8, 'pixels/side'),
  }
  # Networks of features, and whoever asks for no pictures, see what they always saw.
  assert list(layout.sizes) == ['body', 'objects']
  assert list(observations.Layout(('brick',)).spec()) == ['body', 'objects']
  assert set(imitation.observation_spec(layout)) == {*layout.spec(), 'goal'}


@pytest.mark.parametrize('cameras', [('side',), ('side', 'front')])
@pytest.mark.parametrize('batch', [(), (5,), (5, 2)])
def test_pictures_of_all_cameras_are_stacked_in_their_order(
  cameras: tuple[str, ...], batch: tuple[int, ...]
) -> None:
  asked = pictures.Pictures(cameras, 2, 4)
  assert asked.shape == (2, 4, 3 * len(cameras))
  rng = np.random.default_rng(0)
  observation = {
    f'pixels/{name}': rng.integers(0, 256, (*batch, 2, 4, 3), np.uint8)
    for name in ('front', 'side', 'overview')
  }
  stacked = asked.stack(observation)
  assert (stacked.shape, stacked.dtype) == ((*batch, *asked.shape), np.uint8)
  for i, name in enumerate(cameras):
    np.testing.assert_array_equal(
      stacked[..., 3 * i : 3 * i + 3], observation[f'pixels/{name}']
    )
  one_is_no_copy = np.shares_memory(stacked, observation['pixels/side'])
  assert one_is_no_copy == (len(cameras) == 1)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'cameras': ()}, r'cameras are \(\); expected one or more, distinct'),
    ({'cameras': ('side', 'side')}, 'expected one or more, distinct'),
    ({'cameras': ('back',)}, r"no camera 'back'; there are \['front', 'side'"),
    ({'width': 0}, r'size is \(64, 0\); expected \(height, width\), each above 0'),
  ],
)
def test_what_is_asked_for_is_checked(change: dict[str, object], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    pictures.Pictures(**change)  # type: ignore[arg-type]


def test_what_comes_fits_the_spec(seen: stepping.ManipulationEnvironment) -> None:
  spec = seen.observation_spec()
  state = seen.reset().observation
  for observation in (
    state,
    seen.step(np.zeros(9, np.float32)).observation,
    seen.set_state(seen.get_state()),
    seen.observe(),
  ):
    assert set(observation) == set(spec)
    for group, array in spec.items():
      array.validate(observation[group])


def test_features_and_physics_are_as_without_pictures(
  seen: stepping.ManipulationEnvironment,
) -> None:
  blind = tasks.load(seen.task.name, seed=3)
  rng = np.random.default_rng(0)
  for env in (seen, blind):
    env.reset(seed=5)
  for _ in range(15):
    action = rng.uniform(-1, 1, 9).astype(np.float32)
    observation, expected = seen.advance(action), blind.advance(action)
    assert set(expected) == {'body', 'objects'}
    for group, values in expected.items():
      np.testing.assert_array_equal(observation[group], values)
    np.testing.assert_array_equal(seen.get_state(), blind.get_state())


def test_drawing_changes_nothing(seen: stepping.ManipulationEnvironment) -> None:
  seen.reset()
  data = seen.physics.data.ptr
  before = seen.get_state(), data.xpos.copy(), data.contact.dist.copy()
  seen.observe()
  after = seen.get_state(), data.xpos, data.contact.dist
  for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_state_has_one_picture(seen: stepping.ManipulationEnvironment) -> None:
  seen.reset()
  first = seen.advance(np.full(9, 0.5))
  state = seen.get_state()
  others = tasks.load_many(seen.task.name, (8, 9), _SQUARE)
  stranger = tasks.load('lift_brick', 1, pictures.Pictures(height=96, width=80))
  seen.reset()
  stranger.reset()
  for other in others:
    other.reset()
    for again in (other.set_state(state), seen.set_state(state), seen.observe()):
      for group in _GROUPS:
        np.testing.assert_array_equal(again[group], first[group], group)


_SUM = """
import sys, zlib
import numpy as np
from envs import pictures
from envs import tasks
env = tasks.load('lift_brick', 0, pictures.Pictures(('side',)))
observation = env.set_state(np.load(sys.argv[1]))
print(zlib.crc32(observation['pixels/side'].tobytes()))
"""


def test_another_process_draws_the_same(tmp_path: object) -> None:
  env = tasks.load('lift_brick', 4, _SQUARE)
  picture = env.reset().observation['pixels/side']
  path = f'{tmp_path}/state.npy'
  np.save(path, env.get_state())
  done = subprocess.run(
    [sys.executable, '-c', _SUM, path], capture_output=True, text=True, check=True
  )
  assert int(done.stdout) == zlib.crc32(picture.tobytes())


def test_environments_in_turn_see_their_own(place: conftest.Place) -> None:
  first, second = tasks.load_many('lift_brick', (0, 1), _SQUARE)
  for env, x in ((first, -0.08), (second, 0.08)):
    env.reset(seed=0)
    place(env, 'brick', np.array([x, -0.05, 0]), _UPRIGHT)
  for _ in range(3):
    for env, is_left in ((first, True), (second, False)):
      red = _colour(env.advance(np.zeros(9))['pixels/front'], 0) > 100
      assert red.any()
      assert (np.argwhere(red)[:, 1].mean() < 32) == is_left


def test_objects_and_fingers_are_seen(
  seen: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  # At the corners of the workspace, with the hand above.
  for i, (x, y) in enumerate([(-0.1, -0.1), (0.1, 0.1), (0.1, -0.1), (-0.1, 0.1)]):
    seen.reset(seed=i)
    for j, name in enumerate(seen.layout.objects):
      place(seen, name, np.array([x, y, 0]) * (1 - 2 * j), _UPRIGHT)
    observation = seen.observe()
    for group in _GROUPS:
      picture = observation[group]
      for channel in range(len(seen.layout.objects)):
        assert (_colour(picture, channel) > 60).sum() >= 12, (group, x, y, channel)
      fingers = (picture.min(-1) > 140) & (np.ptp(picture, axis=-1) < 10)
      assert fingers.sum() >= 8, (group, i)


@pytest.mark.parametrize(
  'offset, sees, less',
  [
    ((0.04, 0.0), 'pixels/front', 'pixels/side'),
    ((0.0, 0.04), 'pixels/side', 'pixels/front'),
  ],
)
def test_each_camera_sees_across(
  place: conftest.Place, offset: tuple[float, float], sees: str, less: str
) -> None:
  env = tasks.load('lift_brick', 0, _SQUARE)
  env.reset()
  columns = {}
  for step in (0, 1):
    place(env, 'brick', np.array([offset[0] * step, offset[1] * step, 0]), _UPRIGHT)
    for group, picture in env.observe().items():
      if group in _GROUPS:
        red = np.argwhere(_colour(picture, 0) > 60)
        columns[group, step] = red[:, 1].mean()
  assert abs(columns[sees, 1] - columns[sees, 0]) > 4  # Pixels.
  assert abs(columns[less, 1] - columns[less, 0]) < 1


def test_the_hand_carries_a_camera(place: conftest.Place) -> None:
  env = tasks.load('lift_brick', 0, pictures.Pictures(('wrist',)))
  env.reset(seed=0)
  view = pictures.get('wrist')
  azimuth, elevation = np.radians([view.azimuth, view.elevation])
  forward = np.array(
    [
      np.cos(elevation) * np.cos(azimuth),
      np.cos(elevation) * np.sin(azimuth),
      np.sin(elevation),
    ]
  )
  right = np.array([np.sin(azimuth), -np.cos(azimuth), 0])
  up = np.cross(right, forward)
  focal = 32 / np.tan(np.radians(view.field_of_view / 2))
  fingers = []
  for step, offset in enumerate(([0, 0, 0.12], [0.03, 0, 0.15], [0, 0.05, 0.1])):
    for _ in range(8 * step):
      env.advance(np.array([0.3, -0.2, 0.2, 0.4, -0.3, 0.5, 0, 0, 0]))
    # In the hand's frame, from between the fingertips.
    rotation = env.scene.pinch_rotation
    brick = env.scene.pinch_position + rotation @ offset
    place(env, 'brick', brick, _UPRIGHT)
    picture = env.observe()['pixels/wrist']
    # The brick's own position is that of its bottom face; its middle is 1 cm above.
    middle = offset + rotation.T @ [0, 0, 0.01]
    seen = middle - (np.array(view.target) - view.distance * forward)
    expected = 32 + focal / (seen @ forward) * np.array([-(seen @ up), seen @ right])
    red = np.argwhere(_colour(picture, 0) > 60)
    np.testing.assert_allclose(red.mean(0) + 0.5, expected, atol=1.5)
    fingers.append(picture[50:])
  # The hand itself is where it was.
  assert np.abs(fingers[2].astype(int) - fingers[0]).mean() < 12


def test_the_wrist_camera_has_the_brick_in_sight_where_episodes_start() -> None:
  env = tasks.load('lift_brick', 0, pictures.Pictures(('wrist',)))
  for seed in range(30):
    picture = env.reset(seed=seed).observation['pixels/wrist']
    assert (_colour(picture, 0) > 60).sum() >= 8, seed


def test_no_colour_is_seen_but_the_objects(place: conftest.Place) -> None:
  env = tasks.load('stack_2_bricks', 0, _SQUARE)
  env.reset()
  for name in env.layout.objects:
    place(env, name, np.array([3.0, -3.0, 0.0]), _UPRIGHT)  # Far behind the cameras.
  observation = env.observe()
  for group in _GROUPS:
    assert np.ptp(observation[group], axis=-1).max() <= 2


def test_noise_leaves_pictures_alone() -> None:
  env = tasks.load('lift_brick', 0, _SQUARE)
  env.reset()
  disturber = disturbances.Disturber(
    env, disturbances.Disturbance(observation_noise=0.01), seed=0
  )
  observation = disturber.begin()
  sensed = disturber.sense(observation)
  assert set(sensed) == set(observation)
  assert (sensed['body'] != observation['body']).any()
  for group in _GROUPS:
    np.testing.assert_array_equal(sensed[group], observation[group])
