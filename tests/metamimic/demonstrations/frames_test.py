"""Tests of metamimic.demonstrations.frames, and of a reward from pictures."""

from collections.abc import Iterator
import errno
import fcntl
import os
import pathlib

import numpy as np
import pytest

from envs import imitation
from envs import pictures as pictures_lib
from envs import rendering
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic.demonstrations import frames
from metamimic.demonstrations import recording
from metamimic.demonstrations import types

_PICTURES = pictures_lib.Pictures()
_SMALL = pictures_lib.Pictures(('front',), 8, 8)


@pytest.fixture(scope='module')
def demonstrations() -> tuple[types.Demonstration, ...]:
  return recording.record('lift_brick', 2, 1, seed=0, processes=1)[0].demonstrations


@pytest.fixture(scope='module')
def seen(
  demonstrations: tuple[types.Demonstration, ...],
  tmp_path_factory: pytest.TempPathFactory,
) -> list[frames.Seen]:
  folder = str(tmp_path_factory.mktemp('frames'))
  return frames.load(demonstrations, frames.draw(demonstrations, _PICTURES, folder))


def test_frames_are_what_an_environment_shows(seen: list[frames.Seen]) -> None:
  env = tasks.load('lift_brick', 5, _PICTURES)
  for demonstration in seen:
    assert demonstration.skill == 'lift'
    observations = demonstration.observations
    assert len(observations['pixels/front']) == len(demonstration.states)
    for step in (0, 40, -1):
      expected = env.set_state(demonstration.states[step])
      assert set(observations) == set(expected)
      for group, values in expected.items():
        np.testing.assert_array_equal(observations[group][step], values, group)


def test_frames_are_drawn_once_and_read_from_disk(
  demonstrations: tuple[types.Demonstration, ...],
  monkeypatch: pytest.MonkeyPatch,
  tmp_path: pathlib.Path,
) -> None:
  small = pictures_lib.Pictures(('front', 'side'), 8, 8)
  folder = str(tmp_path / 'new' / 'folder')
  first = frames.draw(demonstrations[:2], small, folder)
  names = sorted(os.listdir(folder))
  assert [name.partition('-')[0] for name in names] == ['front', 'side']
  assert all(name.endswith('.npy') for name in names)

  def refuse(*_: object) -> None:
    raise AssertionError('drawn again')

  with monkeypatch.context() as patch:
    patch.setattr(frames, '_draw', refuse)
    again = frames.draw(demonstrations[:2], small, folder)
    with pytest.raises(AssertionError, match='drawn again'):
      frames.draw(demonstrations[1:], small, folder)
  assert first == again
  for demonstration in frames.load(demonstrations[:2], again):
    (expected,) = frames.see([demonstration.demonstration], small)
    assert set(demonstration.pictures) == {'pixels/front', 'pixels/side'}
    for group, values in demonstration.pictures.items():
      np.testing.assert_array_equal(values, expected.pictures[group])
      assert isinstance(values, np.memmap) and not values.flags.writeable


def test_pictures_of_other_demonstrations_are_refused(
  demonstrations: tuple[types.Demonstration, ...], tmp_path: pathlib.Path
) -> None:
  files = frames.draw(demonstrations[:2], _SMALL, str(tmp_path))
  (path,) = files.values()
  for others in (demonstrations[1::-1], demonstrations[:1], demonstrations):
    with pytest.raises(ValueError, match=f'{path}: is of other demonstrations; '):
      frames.load(others, files)
  np.save(path, np.zeros((7, 8, 8, 3), np.uint8))
  with pytest.raises(
    ValueError,
    match=rf'{path}: holds uint8 of shape \(7, 8, 8, 3\); expected uint8 of ',
  ):
    frames.load(demonstrations[:2], files)
  np.save(path, np.array([{}], object), allow_pickle=True)
  with pytest.raises(ValueError, match=f'{path}: expected pictures as an array'):
    frames.load(demonstrations[:2], files)


def test_a_damaged_file_of_pictures_is_named(
  demonstrations: tuple[types.Demonstration, ...], tmp_path: pathlib.Path
) -> None:
  files = frames.draw(demonstrations[:1], _SMALL, str(tmp_path))
  (path,) = files.values()
  content = pathlib.Path(path).read_bytes()
  for damaged in (b'', content[:5], content[:-100], b'x' * len(content)):
    pathlib.Path(path).write_bytes(damaged)
    with pytest.raises(ValueError) as e:
      frames.load(demonstrations[:1], files)
    assert str(e.value).startswith(f'{path}: ')
  pathlib.Path(path).unlink()
  with pytest.raises(FileNotFoundError, match=path):
    frames.load(demonstrations[:1], files)


def test_drawing_that_fails_leaves_no_file(
  demonstrations: tuple[types.Demonstration, ...],
  monkeypatch: pytest.MonkeyPatch,
  tmp_path: pathlib.Path,
) -> None:
  render_states = rendering.Renderer.render_states

  def fail(renderer: rendering.Renderer, states: np.ndarray) -> Iterator[np.ndarray]:
    if len(states) > 20:
      yield from render_states(renderer, states[:20])
      raise OSError('no space left')
    yield from render_states(renderer, states)

  monkeypatch.setattr(rendering.Renderer, 'render_states', fail)
  with pytest.raises(OSError, match='no space left'):
    frames.draw(demonstrations[:1], _PICTURES, str(tmp_path))
  assert not os.listdir(tmp_path)


def test_a_full_disk_is_named_with_the_room_that_is_wanted(
  demonstrations: tuple[types.Demonstration, ...],
  monkeypatch: pytest.MonkeyPatch,
  tmp_path: pathlib.Path,
) -> None:
  def full(fd: int, offset: int, length: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(OSError, match='expected room for 2 MB of pictures') as e:
    frames.draw(demonstrations[:1], _PICTURES, str(tmp_path))
  assert e.value.errno == errno.ENOSPC
  assert e.value.filename.startswith(str(tmp_path / 'front-'))
  assert not os.listdir(tmp_path)


def test_what_another_left_who_died_is_removed_and_what_is_drawn_is_not(
  demonstrations: tuple[types.Demonstration, ...], tmp_path: pathlib.Path
) -> None:
  (path,) = frames.draw(demonstrations[:1], _PICTURES, str(tmp_path)).values()
  os.remove(path)
  dead, drawing = (pathlib.Path(f'{path}.{pid}.tmp') for pid in (1, 2))
  dead.write_bytes(b'half')
  with open(drawing, 'wb') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    frames.draw(demonstrations[:1], _PICTURES, str(tmp_path))
    assert set(tmp_path.iterdir()) == {pathlib.Path(path), drawing}


def test_a_demonstration_with_pictures_can_be_followed(
  demonstrations: tuple[types.Demonstration, ...], seen: list[frames.Seen]
) -> None:
  env = tasks.load('lift_brick', 5, _PICTURES)
  reward = reward_library.LIFT_BRICK_PIXELS.bind(env.layout)
  reward = rewards.calibrate(reward, [d.observations for d in seen])
  environment = imitation.ImitationEnvironment(env, seen, reward)
  environment.reset(0, step=0)
  for action in demonstrations[0].actions[:10]:
    timestep = environment.step(action)
    assert timestep.reward['imitation'] == 1  # It is what the demonstrator did.
    for group, spec in environment.observation_spec().items():
      spec.validate(timestep.observation[group])
  timestep = environment.step(-demonstrations[0].actions[10])
  assert timestep.reward['imitation'] < 0.95


def test_a_brick_left_behind_costs_more_than_being_late(
  seen: list[frames.Seen],
) -> None:
  env = tasks.load('lift_brick', 5, _PICTURES)
  reward = reward_library.LIFT_BRICK_PIXELS.bind(env.layout)
  reward = rewards.calibrate(reward, [d.observations for d in seen])
  late, behind = [], []
  for demonstration in seen:
    observations = demonstration.observations
    for step in range(len(demonstration.states) - 1):
      now, goal = (
        {group: values[i] for group, values in observations.items()}
        for i in (step, step + 1)
      )
      late.append(reward(now, goal).terms['colour'])
    env.set_state(demonstration.states[0])
    start = env.scene.object_position('brick'), env.scene.object_orientation('brick')
    env.set_state(demonstration.states[-1])
    env.scene.place_object('brick', *start)
    behind.append(reward(env.observe(), goal).terms)
  assert np.mean(late) > 0.85
  assert max(terms['colour'] for terms in behind) < 0.1
  # The arm is where it should be, and is most of the picture.
  assert min(terms['arm'] for terms in behind) == 1
  assert min(terms['picture'] for terms in behind) > 0.3
