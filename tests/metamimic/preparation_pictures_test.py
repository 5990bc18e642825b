"""Tests of metamimic.preparation where a run learns from pictures."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pytest

from metamimic import config as config_lib
from metamimic import preparation
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage

_TINY = presets.PRESETS['tiny'][1]
CONFIG = dataclasses.replace(
  _TINY,
  pixels=config_lib.PixelsConfig(('front',), 32),
  evaluation=dataclasses.replace(_TINY.evaluation, videos=0),
)


@pytest.fixture(name='path', scope='module')
def path_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  """Returns a file of demonstrations."""
  path = str(tmp_path_factory.mktemp('demonstrations') / 'file.hdf5')
  demonstrations, _ = recording.record('lift_brick', train=2, valid=1, seed=0)
  storage.save(path, demonstrations)
  return path


def _config(path: str, **pixels: Any) -> config_lib.Config:
  changed = dataclasses.replace(CONFIG.pixels, **pixels)
  return dataclasses.replace(CONFIG, demonstrations=path, pixels=changed)


def _prepared(config: config_lib.Config, run_dir: pathlib.Path) -> dict[str, Any]:
  run_dir.mkdir(exist_ok=True)
  preparation.prepare(config, str(run_dir))
  return run_description.read(str(run_dir))


def test_two_rewards_and_the_pictures_are_written(
  path: str, tmp_path: pathlib.Path
) -> None:
  found = _prepared(_config(path), tmp_path / 'seeing')
  plain = _prepared(_config(path, cameras=()), tmp_path / 'features')
  # It is measured as if there were no pictures.
  for name in ('task', 'reward', 'terms', 'temperatures'):
    assert found[name] == plain[name], name
  assert found['reward'] == 'envs.reward_library:LIFT_BRICK'
  assert found['terms'] == ['arm', 'fingers', 'pinch', 'brick']
  assert found['training_reward'] == 'envs.reward_library:LIFT_BRICK_PIXELS'
  given = found['training_temperatures']
  assert set(given) == {'arm', 'fingers', 'pinch', 'picture', 'colour'}
  assert all(0 < value < 10 for value in given.values())
  assert plain['training_reward'] == plain['reward']
  assert plain['training_temperatures'] == plain['temperatures']
  assert plain['frames'] == {}
  # Beside the file, of all its demonstrations.
  assert set(found['frames']) == {'pixels/front'}
  drawn = pathlib.Path(found['frames']['pixels/front'])
  assert drawn.parent == pathlib.Path(f'{path}.frames')
  shown = storage.load(path).demonstrations
  frames = np.load(drawn, mmap_mode='r')
  assert (frames.shape, frames.dtype) == (
    (sum(d.num_steps + 1 for d in shown), 32, 32, 3),
    np.uint8,
  )


def test_relative_goals_have_a_reward_from_the_wrist_camera(
  path: str, tmp_path: pathlib.Path
) -> None:
  relative = config_lib.ImitationConfig(relative=True)
  config = dataclasses.replace(_config(path, cameras=('wrist',)), imitation=relative)
  found = _prepared(config, tmp_path / 'seeing')
  features = dataclasses.replace(_config(path, cameras=()), imitation=relative)
  plain = _prepared(features, tmp_path / 'features')
  # It is measured as if there were no pictures.
  for name in ('task', 'reward', 'terms', 'temperatures'):
    assert found[name] == plain[name], name
  assert found['reward'] == 'envs.reward_library:LIFT_BRICK_RELATIVE'
  given = found['training_reward']
  assert given == 'envs.reward_library:LIFT_BRICK_PIXELS_RELATIVE'
  assert set(found['frames']) == {'pixels/wrist'}
  assert list(found['training_temperatures']) == [
    *('fingers', 'tilt', 'height', 'centroid', 'colour')
  ]


def test_pictures_are_drawn_once_for_all_runs_and_again_if_they_are_gone(
  path: str, tmp_path: pathlib.Path
) -> None:
  folder = tmp_path / 'new' / 'frames'
  config = _config(path, frames=str(folder))
  first = _prepared(config, tmp_path / 'first')
  (drawn,) = folder.iterdir()
  content, begun = drawn.read_bytes(), drawn.stat()
  second = _prepared(config, tmp_path / 'second')
  assert second['frames'] == first['frames'] == {'pixels/front': str(drawn)}
  assert [*folder.iterdir()] == [drawn]
  assert (drawn.stat().st_ino, drawn.stat().st_mtime_ns) == (
    begun.st_ino,
    begun.st_mtime_ns,
  )
  # A run that is resumed does without nothing.
  drawn.unlink()
  assert _prepared(config, tmp_path / 'first') == first
  assert drawn.read_bytes() == content
  seen = preparation.references(
    preparation.load_demonstrations(config), first['frames']
  )
  assert len(seen) == 3
  for demonstration in seen:
    pictures = demonstration.observations['pixels/front']
    assert len(pictures) == len(demonstration.states)


@pytest.mark.parametrize(
  ('algorithm', 'blind', 'drawn'),
  [
    *(('metamimic', False, True), ('metamimic', True, True)),  # Rewards see.
    *(('bc', False, True), ('bc', True, False), ('bc_no_goal', False, True)),
    *(('d4pgfd', False, True), ('d4pgfd', True, False), ('d4pg', False, False)),
  ],
)
def test_pictures_are_drawn_for_those_who_look(
  algorithm: Any, blind: bool, drawn: bool, path: str, tmp_path: pathlib.Path
) -> None:
  folder = tmp_path / 'frames'
  config = _config(path, frames=str(folder), blind=blind)
  config = dataclasses.replace(config, algorithm=algorithm)
  found = _prepared(config, tmp_path / 'run')
  assert set(found['frames']) == ({'pixels/front'} if drawn else set())
  assert folder.exists() == drawn


def test_pictures_may_be_moved(path: str, tmp_path: pathlib.Path) -> None:
  here = _prepared(_config(path, frames=str(tmp_path / 'here')), tmp_path / 'run')
  (tmp_path / 'here').rename(tmp_path / 'there')
  there = _prepared(_config(path, frames=str(tmp_path / 'there')), tmp_path / 'run')
  (drawn,) = (tmp_path / 'there').iterdir()
  assert there == {**here, 'frames': {'pixels/front': str(drawn)}}


def test_a_run_whose_pictures_are_others_does_not_go_on(
  path: str, tmp_path: pathlib.Path
) -> None:
  _prepared(_config(path, frames=str(tmp_path)), tmp_path / 'run')
  settings = _config(path, frames=str(tmp_path))
  more = dataclasses.replace(settings.pixels, cameras=('front', 'side'))
  with pytest.raises(ValueError, match=r'drawn in another way here.* MUJOCO_GL=osmesa'):
    preparation.prepare(
      dataclasses.replace(settings, pixels=more), str(tmp_path / 'run')
    )


def test_the_factor_is_on_the_temperatures_of_training_alone(
  path: str, tmp_path: pathlib.Path
) -> None:
  config = _config(path)
  plain = _prepared(config, tmp_path / 'plain')
  doubled = _prepared(
    dataclasses.replace(
      config, imitation=config_lib.ImitationConfig(temperature_factor=2.0)
    ),
    tmp_path / 'doubled',
  )
  assert doubled['temperatures'] == plain['temperatures']
  assert doubled['training_temperatures'] == {
    name: 2 * tau for name, tau in plain['training_temperatures'].items()
  }


def test_what_is_seen_and_what_rewards_have_no_objects(path: str) -> None:
  config = _config(path)
  blind = _config(path, blind=True)
  plain = _config(path, cameras=())
  for layout in (
    preparation.seen_layout(config, 'lift_brick'),
    preparation.actor_layout(config, 'lift_brick'),
    preparation.actor_layout(blind, 'lift_brick'),
  ):
    assert list(layout.spec()) == ['body', 'pixels/front']
    assert layout.pictures == config.pictures
  assert list(preparation.seen_layout(blind, 'lift_brick').spec()) == ['body']
  for layout in (
    preparation.seen_layout(plain, 'lift_brick'),
    preparation.actor_layout(plain, 'lift_brick'),
  ):
    assert list(layout.spec()) == ['body', 'objects']


@pytest.mark.parametrize(
  ('pixels', 'reward', 'message'),
  [
    (
      {'cameras': ('side',)},
      '',
      "no pictures of camera 'front' in the observation; there are ('side',)",
    ),
    ({'size': 34}, '', 'pictures have size (34, 34); expected multiples of 4'),
    (
      {},
      'envs.reward_library:LIFT_BRICK',
      "no field 'brick/position' in the observation",
    ),
  ],
)
def test_a_reward_that_is_not_of_what_is_seen_is_refused_before_drawing(
  pixels: dict[str, Any],
  reward: str,
  message: str,
  path: str,
  tmp_path: pathlib.Path,
) -> None:
  folder = tmp_path / 'frames'
  config = dataclasses.replace(
    _config(path, frames=str(folder), **pixels),
    imitation=config_lib.ImitationConfig(reward),
  )
  with pytest.raises(ValueError) as e:
    preparation.prepare(config)
  assert message in str(e.value)
  assert not folder.exists()


def test_a_task_without_a_reward_from_pictures_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = str(tmp_path / 'reach.hdf5')
  demonstrations, _ = recording.record('reach_duplo', train=1, valid=1, seed=0)
  storage.save(path, demonstrations)
  with pytest.raises(ValueError) as e:
    preparation.prepare(_config(path))
  assert str(e.value) == (
    "pixels.cameras is set, but there is no such reward for 'reach_duplo'; expected "
    "imitation.reward, or one of the tasks ['lift_brick']"
  )
  assert os.listdir(tmp_path) == ['reach.hdf5']


@pytest.mark.parametrize('algorithm', ['bc', 'bc_no_goal', 'd4pg', 'd4pgfd'])
def test_who_is_not_rewarded_for_imitation_needs_no_reward_from_pictures(
  algorithm: Any, tmp_path: pathlib.Path
) -> None:
  path = str(tmp_path / 'reach.hdf5')
  demonstrations, _ = recording.record('reach_duplo', train=1, valid=1, seed=0)
  storage.save(path, demonstrations)
  config = dataclasses.replace(_config(path), algorithm=algorithm)
  found = _prepared(config, tmp_path / 'run')
  assert found['training_reward'] == found['reward']
  assert found['reward'] == 'envs.reward_library:REACH_DUPLO'
  assert list(preparation.seen_layout(config, 'reach_duplo').spec()) == [
    'body',
    'pixels/front',
  ]


def test_a_folder_that_cannot_be_written_is_named(
  path: str, tmp_path: pathlib.Path
) -> None:
  taken = tmp_path / 'taken'
  taken.write_text('mine')
  for folder in (taken, taken / 'frames'):
    with pytest.raises(OSError) as e:
      preparation.prepare(_config(path, frames=str(folder)))
    assert str(folder) in str(e.value)
  assert taken.read_text() == 'mine'


def test_a_disk_that_is_full_is_an_error_and_leaves_nothing(
  path: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def full(file: int, start: int, size: int) -> None:
    assert start == 0 and size == os.fstat(file).st_size > 32 * 32 * 3
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(OSError, match='No space left on device'):
    preparation.prepare(_config(path, frames=str(tmp_path / 'frames')))
  assert os.listdir(tmp_path / 'frames') == []
