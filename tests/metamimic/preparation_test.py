"""Tests of metamimic.preparation."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from envs import distances
from envs import reward_library
from envs import rewards
from metamimic import config as config_lib
from metamimic import preparation
from metamimic import presets
from metamimic import run_description
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_TINY = presets.PRESETS['tiny'][1]
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
  description = run_description.read(str(tmp_path))
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
    ({'gpu': True}, '-m uv pip install --no-deps tensorflow==2.12.1'),
    (
      {'imitation': config_lib.ImitationConfig(relative=True)},
      "imitation.relative is set, but there is no such reward for 'reach_duplo'; "
      "expected imitation.reward, or one of the tasks ['lift_brick', 'stack_2_bricks']",
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


def _few(path: str, count: int, **changes: Any) -> config_lib.Config:
  return dataclasses.replace(
    CONFIG, demonstrations=path, train_demonstrations=count, **changes
  )


def test_a_run_has_the_first_training_demonstrations_and_all_held_out_ones(
  path: str, tmp_path: pathlib.Path
) -> None:
  whole = storage.load(path, with_actions=True)
  shuffled = str(tmp_path / 'shuffled.hdf5')
  storage.save(shuffled, dataclasses.replace(whole, train=(2, 0), valid=(1,)))
  few = preparation.load_demonstrations(_few(shuffled, 1))
  assert [d.name for d in few.demonstrations] == ['demo_1', 'demo_2']
  assert [d.name for d in few.split('train')] == ['demo_2']
  assert [d.name for d in few.split('valid')] == ['demo_1']
  assert few.task == whole.task and not few.has_actions
  assert preparation.load_demonstrations(_few(shuffled, 1), True).has_actions
  for count in (0, 2):
    found = preparation.load_demonstrations(_few(shuffled, count))
    assert (found.train, found.valid) == ((2, 0), (1,))


def test_a_skill_that_the_file_does_not_show_is_refused(
  path: str, tmp_path: pathlib.Path
) -> None:
  config = dataclasses.replace(
    CONFIG, demonstrations=path, without_skills=('reach', 'juggle')
  )
  with pytest.raises(ValueError) as e:
    preparation.prepare(config)
  assert str(e.value) == (
    f"without_skills: {path}: no demonstration of 'juggle'; there are ('reach',)"
  )
  # A skill that is never held out could not be measured.
  unmeasured = str(tmp_path / 'unmeasured.hdf5')
  two, _ = recording.record(
    'two_bricks', train=2, valid=1, seed=0, wanted_skills=['reach', 'lift_top']
  )
  storage.save(unmeasured, two)
  with pytest.raises(ValueError) as e:
    preparation.prepare(
      dataclasses.replace(
        config, demonstrations=unmeasured, without_skills=('lift_top',)
      )
    )
  assert str(e.value) == (
    f"without_skills: {unmeasured}: no held-out demonstration of ('lift_top',); "
    'expected some to measure'
  )
  # Nothing would be left to learn from.
  with pytest.raises(ValueError, match='0 training and 0 held-out demonstrations'):
    preparation.prepare(dataclasses.replace(config, without_skills=('reach',)))


def test_more_training_demonstrations_than_there_are_are_refused(path: str) -> None:
  with pytest.raises(ValueError) as e:
    preparation.prepare(_few(path, 3))
  assert str(e.value) == (
    f'train_demonstrations: {path}: 2 training demonstrations; expected 3'
  )


def test_rewards_are_calibrated_on_the_runs_own_demonstrations(
  path: str, tmp_path: pathlib.Path
) -> None:
  whole = storage.load(path)
  alone = str(tmp_path / 'alone.hdf5')
  kept = (whole.demonstrations[0], whole.demonstrations[2])
  assert (whole.train, whole.valid) == ((0, 1), (2,))
  storage.save(alone, types.DemonstrationSet(whole.task, kept, (0,), (1,)))
  found: list[dict[str, float]] = []
  for file, count in ((path, 0), (path, 1), (alone, 0)):
    run = tmp_path / str(len(found))
    run.mkdir()
    preparation.prepare(_few(file, count), str(run))
    found.append(run_description.read(str(run))['temperatures'])
  assert found[0] != found[1] == found[2]


def test_the_factor_is_on_the_temperatures_of_training_alone(
  path: str, tmp_path: pathlib.Path
) -> None:
  found = []
  for factor in (1.0, 2.0):
    imitation = config_lib.ImitationConfig(temperature_factor=factor)
    run = tmp_path / str(factor)
    run.mkdir()
    preparation.prepare(_few(path, 0, imitation=imitation), str(run))
    found.append(run_description.read(str(run)))
  plain, doubled = found
  assert plain['training_temperatures'] == plain['temperatures']
  assert doubled['temperatures'] == plain['temperatures']
  # That of the duplo is declared, not calibrated.
  assert doubled['training_temperatures'] == {
    name: tau if name == 'duplo' else 2 * tau
    for name, tau in plain['temperatures'].items()
  }


def _nothing(observation: Any, goal: Any) -> rewards.RewardResult:
  del observation, goal
  return rewards.RewardResult(1.0, {'nothing': 1.0})


def test_a_factor_needs_calibrated_temperatures(
  path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  fixed = rewards.Reward(
    [rewards.Term('hand', distances.Euclidean('pinch_position'), 1.0, 0.02)]
  )
  for reward in (fixed, _nothing):
    monkeypatch.setattr(reward_library, 'MINE', reward, raising=False)
    for factor in (1.0, 2.0):
      imitation = config_lib.ImitationConfig(
        'envs.reward_library:MINE', temperature_factor=factor
      )
      config = _few(path, 0, imitation=imitation)
      if factor == 1:
        preparation.prepare(config)
        continue
      with pytest.raises(ValueError, match=r'temperature_factor is 2\.0; expected 1'):
        preparation.prepare(config)


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


def test_demonstrations_without_success_are_no_use_to_d4pgfd(
  path: str, tmp_path: pathlib.Path
) -> None:
  lost = str(tmp_path / 'lost.hdf5')
  found = storage.load(path, with_actions=True)
  failed = tuple(_failed(d) for d in found.demonstrations)
  storage.save(lost, dataclasses.replace(found, demonstrations=failed))
  config = dataclasses.replace(CONFIG, demonstrations=lost)
  preparation.prepare(config)
  with pytest.raises(ValueError) as e:
    preparation.prepare(dataclasses.replace(config, algorithm='d4pgfd'))
  assert str(e.value) == (
    f'{lost}: no training demonstration has a reward; d4pgfd needs some that succeed'
  )


def _failed(demonstration: types.Demonstration) -> types.Demonstration:
  return types.Demonstration(
    name=demonstration.name,
    task=demonstration.task,
    skill=demonstration.skill,
    observations=demonstration.observations,
    states=demonstration.states,
    actions=demonstration.actions,
    rewards=np.zeros_like(demonstration.rewards),
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


@pytest.mark.parametrize(
  'changes',
  [
    {'task': dataclasses.replace(CONFIG.task, learn=True)},
    {'algorithm': 'd4pg'},
    {'algorithm': 'bc_no_goal'},
  ],
)
def test_who_is_shown_nothing_needs_a_task_with_one_skill(
  changes: dict[str, Any], tmp_path: pathlib.Path
) -> None:
  path = str(tmp_path / 'two.hdf5')
  demonstrations, _ = recording.record('two_bricks', train=1, valid=1, seed=0)
  storage.save(path, demonstrations)
  config = dataclasses.replace(CONFIG, demonstrations=path)
  with pytest.raises(ValueError, match=r'two_bricks has the skills \(.reach., .push.'):
    preparation.prepare(dataclasses.replace(config, **changes))
  preparation.prepare(dataclasses.replace(config, algorithm='bc'))


def test_another_reward_than_the_run_began_with_is_refused(
  path: str, tmp_path: pathlib.Path
) -> None:
  config = dataclasses.replace(CONFIG, demonstrations=path)
  preparation.prepare(config, str(tmp_path))
  found = run_description.read(str(tmp_path))
  preparation.prepare(config, str(tmp_path))
  assert run_description.read(str(tmp_path)) == found
  run_description.write(str(tmp_path), {**found, 'terms': ['arm']})
  with pytest.raises(
    ValueError, match=r"run\.json: the run began with terms \['arm'\]"
  ):
    preparation.prepare(config, str(tmp_path))


def test_states_of_another_version_are_refused(
  path: str, tmp_path: pathlib.Path
) -> None:
  whole = storage.load(path, with_actions=True)
  narrow = tuple(
    types.Demonstration(
      d.name, d.task, d.skill, d.observations, d.states[:, :5].copy(), d.actions
    )
    for d in whole.demonstrations
  )
  other = str(tmp_path / 'narrow.hdf5')
  storage.save(other, dataclasses.replace(whole, demonstrations=narrow))
  config = dataclasses.replace(CONFIG, demonstrations=other)
  message = (
    f'^{other}: demo_0: states: {whole.task}: state has shape \\(5,\\); expected '
  )
  with pytest.raises(ValueError, match=message):
    preparation.prepare(config)
