"""Tests of metamimic.preparation."""

import dataclasses
import pathlib
from typing import Any

import pytest

from metamimic import config as config_lib
from metamimic import preparation
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage

_TINY = config_lib.PRESETS['tiny'][1]
CONFIG = dataclasses.replace(
  _TINY, evaluation=dataclasses.replace(_TINY.evaluation, videos=0)
)


@pytest.fixture(name='path', scope='module')
def path_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  """Returns a file of demonstrations."""
  path = str(tmp_path_factory.mktemp('demonstrations') / 'file.hdf5')
  demonstrations, _ = recording.record('reach_duplo', train=2, valid=1, seed=0)
  storage.save(path, demonstrations)
  return path


def test_what_the_nodes_must_agree_on_is_written(
  path: str, tmp_path: pathlib.Path
) -> None:
  config = dataclasses.replace(CONFIG, demonstrations=path)
  preparation.prepare(config, str(tmp_path))
  description = preparation.description(str(tmp_path))
  assert description['task'] == 'reach_duplo'
  assert description['reward'] == 'envs.reward_library:REACH_DUPLO'
  assert description['terms'] == ['arm', 'fingers', 'pinch', 'duplo']
  assert set(description['temperatures']) == set(description['terms'])
  assert all(value > 0 for value in description['temperatures'].values())


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'demonstrations': '/nowhere.hdf5'}, '/nowhere.hdf5: no such file'),
    (
      {'imitation': config_lib.ImitationConfig(reward='no_such_package:REWARD')},
      "reward 'no_such_package:REWARD' cannot be imported",
    ),
    (
      {'imitation': config_lib.ImitationConfig(reward='envs.reward_library:_ARM')},
      "reward 'envs.reward_library:_ARM': expected a callable object",
    ),
    (
      {
        'imitation': config_lib.ImitationConfig(
          reward='envs.reward_library:STACK_2_BRICKS'
        )
      },
      "no field 'base/position' in the observation",
    ),
    (
      {'imitation': config_lib.ImitationConfig(relative=True)},
      "imitation.relative is set, but there is no such reward for 'reach_duplo'; "
      "expected imitation.reward, or one of the tasks ['stack_2_bricks']",
    ),
  ],
)
def test_what_cannot_be_used_is_refused(
  path: str, changes: dict[str, Any], message: str
) -> None:
  config = dataclasses.replace(CONFIG, **{'demonstrations': path, **changes})
  with pytest.raises((ValueError, OSError)) as e:
    preparation.prepare(config)
  assert message in str(e.value)


def test_file_without_held_out_demonstrations_is_refused(
  tmp_path: pathlib.Path, path: str
) -> None:
  whole = storage.load(path)
  train = str(tmp_path / 'train.hdf5')
  storage.save(train, dataclasses.replace(whole, train=(0, 1, 2), valid=()))
  with pytest.raises(ValueError) as e:
    preparation.prepare(dataclasses.replace(CONFIG, demonstrations=train))
  assert str(e.value) == (
    f'{train}: 3 training and 0 held-out demonstrations; expected some of each'
  )


@pytest.mark.parametrize('algorithm', ['bc', 'bc_no_goal', 'd4pgfd'])
def test_demonstrations_without_actions_are_no_use_to_who_needs_them(
  algorithm: Any, path: str, tmp_path: pathlib.Path
) -> None:
  bare = str(tmp_path / 'bare.hdf5')
  storage.save(bare, storage.load(path, with_actions=False))
  config = dataclasses.replace(CONFIG, demonstrations=bare)
  preparation.prepare(config)
  with pytest.raises(ValueError) as e:
    preparation.prepare(dataclasses.replace(config, algorithm=algorithm))
  assert str(e.value) == (
    f'{bare}: has no actions; the algorithm {algorithm} needs them'
  )


def test_another_reward_than_the_run_began_with_is_refused(
  path: str, tmp_path: pathlib.Path
) -> None:
  config = dataclasses.replace(CONFIG, demonstrations=path)
  preparation.prepare(config, str(tmp_path))
  found = preparation.description(str(tmp_path))
  preparation.prepare(config, str(tmp_path))
  assert preparation.description(str(tmp_path)) == found
  preparation.describe(str(tmp_path), {**found, 'terms': ['arm']})
  with pytest.raises(
    ValueError, match=r"run\.json: the run began with terms \['arm'\]"
  ):
    preparation.prepare(config, str(tmp_path))
