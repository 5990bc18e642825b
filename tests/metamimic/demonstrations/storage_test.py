"""Tests of metamimic.demonstrations.storage."""

from collections.abc import Callable
import json
import os
import pathlib
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest

from metamimic.demonstrations import storage
from metamimic.demonstrations import types

Edit = Callable[[h5py.File], object]

_LENGTHS = (3, 5, 2)
_STATE_SIZE = 6


def _demonstration(number: int, with_actions: bool = True) -> types.Demonstration:
  rng = np.random.default_rng(number)
  length = _LENGTHS[number]
  rewards = np.zeros(length, np.float32)
  rewards[-1] = 1
  return types.Demonstration(
    name=f'demo_{number}',
    task='lift_brick',
    skill='lift',
    observations={
      'body': rng.normal(size=(length + 1, 33)).astype(np.float32),
      'objects': rng.normal(size=(length + 1, 13)).astype(np.float32),
    },
    states=rng.normal(size=(length + 1, _STATE_SIZE)),
    actions=(
      rng.uniform(-1, 1, (length, 9)).astype(np.float32) if with_actions else None
    ),
    expert={'speed': 0.1 * number},
    rewards=rewards,
  )


def _set(with_actions: bool = True) -> types.DemonstrationSet:
  return types.DemonstrationSet(
    'lift_brick',
    tuple(_demonstration(i, with_actions) for i in range(3)),
    train=(0, 2),
    valid=(1,),
  )


@pytest.fixture(name='path')
def path_fixture(tmp_path: pathlib.Path) -> str:
  path = str(tmp_path / 'lift.hdf5')
  storage.save(path, _set())
  return path


def _assert_equal(
  found: types.DemonstrationSet, expected: types.DemonstrationSet
) -> None:
  assert (found.task, found.train, found.valid) == (
    expected.task,
    expected.train,
    expected.valid,
  )
  for a, b in zip(found.demonstrations, expected.demonstrations, strict=True):
    assert (a.name, a.task, a.skill) == (b.name, b.task, b.skill)
    assert dict(a.expert) == dict(b.expert)
    np.testing.assert_array_equal(a.states, b.states)
    np.testing.assert_array_equal(a.rewards, b.rewards)
    assert list(a.observations) == list(b.observations)
    for group, values in b.observations.items():
      np.testing.assert_array_equal(a.observations[group], values)


def test_load_gives_what_was_saved(path: str) -> None:
  found = storage.load(path, with_actions=True)
  _assert_equal(found, _set())
  for a, b in zip(found.demonstrations, _set().demonstrations, strict=True):
    np.testing.assert_array_equal(a.actions, b.actions)


def test_more_than_ten_demonstrations_keep_their_order(tmp_path: pathlib.Path) -> None:
  one = _demonstration(0)
  many = tuple(
    types.Demonstration(
      f'demo_{i}', one.task, one.skill, one.observations, one.states + i
    )
    for i in range(12)
  )
  path = str(tmp_path / 'many.hdf5')
  storage.save(path, types.DemonstrationSet('lift_brick', many, tuple(range(12)), ()))
  found = storage.load(path)
  assert [d.name for d in found.demonstrations] == [f'demo_{i}' for i in range(12)]
  assert [d.states[0, 0] - one.states[0, 0] for d in found.demonstrations] == (
    pytest.approx(list(range(12)))
  )


def test_skills_of_one_file_may_differ(tmp_path: pathlib.Path) -> None:
  shown = ('wave', 'stack', 'wave')
  demonstrations = tuple(
    types.Demonstration(
      f'demo_{i}',
      'two_bricks',
      skill,
      {'body': np.zeros((2, 33), np.float32), 'objects': np.zeros((2, 26), np.float32)},
      np.zeros((2, _STATE_SIZE)),
    )
    for i, skill in enumerate(shown)
  )
  path = str(tmp_path / 'two.hdf5')
  storage.save(path, types.DemonstrationSet('two_bricks', demonstrations, (0, 1), (2,)))
  found = storage.load(path)
  assert tuple(d.skill for d in found.demonstrations) == shown
  assert found.skills == ('wave', 'stack')


def test_actions_are_not_loaded_unless_asked_for(path: str) -> None:
  found = storage.load(path)
  _assert_equal(found, _set())
  for d in found.demonstrations:
    with pytest.raises(types.ActionsNotAvailable):
      _ = d.actions


def test_actions_are_not_even_looked_at_unless_asked_for(path: str) -> None:
  with h5py.File(path, 'r+') as file:
    del file['data/demo_1/actions']
    file['data/demo_1/actions'] = 'none of your business'
  _assert_equal(storage.load(path), _set())


def test_a_file_without_actions_is_as_good(tmp_path: pathlib.Path) -> None:
  path = str(tmp_path / 'lift.hdf5')
  storage.save(path, _set(with_actions=False))
  assert not storage.has_actions(path)
  _assert_equal(storage.load(path), _set())


def test_counts(path: str) -> None:
  assert storage.counts(path) == (2, 1)


def test_what_is_novel_is_for_a_run_to_say(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'novel.hdf5'
  with pytest.raises(ValueError, match='1 demonstrations are novel; expected each in'):
    storage.save(str(path), _set().without(['lift']))
  assert not path.exists()


def test_has_actions(path: str) -> None:
  assert storage.has_actions(path)


def test_layout_is_robomimics(path: str) -> None:
  demonstration = _demonstration(1)
  with h5py.File(path, 'r') as file:
    assert sorted(file) == ['data', 'mask']
    data = file['data']
    assert data.attrs['total'] == 10
    env = json.loads(data.attrs['env_args'])
    assert env == {'env_name': 'lift_brick', 'type': 2, 'env_kwargs': {}}
    demo = data['demo_1']
    assert demo.attrs['num_samples'] == 5
    assert demo.attrs['skill'] == 'lift'
    assert demo['states'].shape == (5, _STATE_SIZE)
    assert demo['actions'].shape == (5, 9)
    np.testing.assert_array_equal(demo['rewards'], [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(demo['dones'], [0, 0, 0, 0, 1])
    for group in ('body', 'objects'):
      values = demonstration.observations[group]
      np.testing.assert_array_equal(demo[f'obs/{group}'], values[:-1])
      np.testing.assert_array_equal(demo[f'next_obs/{group}'], values[1:])
    assert file['mask/train'][()].tolist() == [b'demo_0', b'demo_2']
    assert file['mask/valid'][()].tolist() == [b'demo_1']


def test_save_makes_the_folder_and_leaves_nothing_else(tmp_path: pathlib.Path) -> None:
  storage.save(str(tmp_path / 'a' / 'b' / 'lift.hdf5'), _set())
  assert os.listdir(tmp_path / 'a' / 'b') == ['lift.hdf5']


def test_save_that_fails_leaves_the_old_file(
  path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  def fail(*unused: object) -> NoReturn:
    raise OSError('disk full')

  with open(path, 'rb') as file:
    before = file.read()
  monkeypatch.setattr(storage.os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    storage.save(path, _set())
  with open(path, 'rb') as file:
    assert file.read() == before
  assert os.listdir(os.path.dirname(path)) == ['lift.hdf5']


def _replaced(name: str, change: Callable[[Any], Any]) -> Edit:
  """Returns an edit that replaces a dataset by `change(array)`."""

  def edit(file: h5py.File) -> None:
    values = change(file[name][()])
    del file[name]
    file[name] = values

  return edit


def _put(name: str, value: np.ndarray) -> Edit:
  def edit(file: h5py.File) -> None:
    del file[name]
    file[name] = value

  return edit


def _removed(name: str) -> Edit:
  def edit(file: h5py.File) -> None:
    del file[name]

  return edit


def _attribute(name: str, attribute: str, value: object) -> Edit:
  def edit(file: h5py.File) -> None:
    file[name].attrs[attribute] = value

  return edit


def _nan_at_step_1(values: np.ndarray) -> np.ndarray:
  values[1] = np.nan
  return values


def _nan_in_both(file: h5py.File) -> None:
  file['data/demo_1/obs/body'][2, 7] = np.nan
  file['data/demo_1/next_obs/body'][1, 7] = np.nan


@pytest.mark.parametrize(
  'edit, message',
  [
    # The file.
    (_removed('data'), ': no group data; expected demonstrations in it'),
    (
      _attribute('data', 'metamimic_version', 1),
      ': data has attribute metamimic_version = 1; expected 2',
    ),
    (
      lambda file: file['data'].attrs.pop('metamimic_version'),
      ': data has attribute metamimic_version = None; expected 2',
    ),
    (
      lambda file: file['data'].attrs.pop('env_args'),
      ': data has attribute env_args = None; expected JSON with an env_name',
    ),
    (
      _attribute('data', 'env_args', '{"env_name'),
      ": data has attribute env_args = '{\"env_name'; expected JSON with an env_name",
    ),
    (
      _attribute('data', 'env_args', '{"env_name": "juggle"}'),
      ": the task is 'juggle'; expected one of ['lift_brick', 'reach_duplo', "
      "'stack_2_bricks', 'two_bricks']",
    ),
    (
      _attribute('data', 'total', 11),
      ': data has attribute total = 11; expected 10, the number of steps in it',
    ),
    (
      lambda file: file['data'].move('demo_1', 'take_1'),
      ": data holds 'take_1'; expected demo_0, demo_1, ...",
    ),
    (
      lambda file: [file['data'].pop(f'demo_{i}') for i in range(3)],
      ': data holds no demonstrations; expected demo_0, ...',
    ),
    # The split.
    (
      _removed('mask/valid'),
      ': no mask/valid; expected a list of demonstrations',
    ),
    (
      _replaced('mask/train', lambda names: np.array([b'demo_0', b'demo_7'])),
      ": mask/train holds 'demo_7'; expected names of demonstrations in the file",
    ),
    (
      _replaced(
        'mask/train', lambda names: np.array([b'demo_0', b'demo_1', b'demo_2'])
      ),
      ': demo_1: it is 2 times in train and valid; expected exactly once',
    ),
    (
      _replaced('mask/train', lambda names: np.array([b'demo_0'])),
      ': demo_2: it is in neither train nor valid; expected exactly once',
    ),
    # A demonstration.
    (_put('data/demo_1', np.zeros(3)), ': demo_1 is a dataset; expected a group'),
    (
      _attribute('data/demo_1', 'num_samples', 4),
      ': demo_1: attribute num_samples is 4; expected 5, the length of states',
    ),
    (
      _attribute('data/demo_1', 'expert', 'me'),
      ": demo_1: attribute expert is 'me'; expected a JSON object",
    ),
    (
      lambda file: file['data/demo_1'].attrs.pop('skill'),
      ': demo_1: attribute skill is None; expected a name',
    ),
    (
      _attribute('data/demo_1', 'skill', 7),
      ': demo_1: attribute skill is 7; expected a name',
    ),
    (
      _attribute('data/demo_1', 'skill', 'juggle'),
      ": demo_1: skill is 'juggle'; expected one of ['lift']",
    ),
    (
      _removed('data/demo_1/obs/objects'),
      ': demo_1: no dataset obs/objects; expected one of float32',
    ),
    (
      _removed('data/demo_1/states'),
      ': demo_1: no dataset states; expected one of float64',
    ),
    (
      _replaced('data/demo_1/obs/body', lambda values: values.astype(np.float64)),
      ': demo_1: obs/body is float64; expected float32',
    ),
    (
      _replaced('data/demo_1/obs/objects', lambda values: values[:, :12]),
      ': demo_1: obs/objects has shape (5, 12); expected (5, 13)',
    ),
    (
      _replaced('data/demo_1/next_obs/body', lambda values: values[:4]),
      ': demo_1: next_obs/body has shape (4, 33); expected (5, 33)',
    ),
    (
      _replaced('data/demo_1/next_obs/body', lambda values: values + 1),
      ': demo_1: next_obs/body is not obs/body one step on; expected the same numbers',
    ),
    (
      _nan_in_both,
      ": demo_1: observations['body'] holds NaN or infinity at step 2; expected "
      'finite numbers',
    ),
    (
      _replaced('data/demo_1/states', _nan_at_step_1),
      ': demo_1: states holds NaN or infinity at step 1; expected finite numbers',
    ),
    (
      _replaced('data/demo_1/final_state', lambda values: values[:5]),
      ': demo_1: final_state has shape (5,) and states (5, 6); expected (S,) and '
      '(T, S)',
    ),
    (
      _replaced('data/demo_1/rewards', lambda values: values[:4]),
      ': demo_1: rewards has length 4; expected 5, one fewer than states has',
    ),
    (
      _removed('data/demo_1/actions'),
      ': demo_1: no dataset actions; expected one of float32',
    ),
    (
      _replaced('data/demo_1/actions', lambda values: values[:4]),
      ': demo_1: actions has length 4; expected 5, one fewer than states has',
    ),
    (
      _replaced('data/demo_1/actions', lambda values: np.full((5, 9), 2, np.float32)),
      ': demo_1: actions reach from 2 to 2; expected [-1, 1]',
    ),
    (
      _replaced('data/demo_1/actions', lambda values: values[:, :8]),
      ': demo_1: actions have shape (5, 8); expected (T, 9)',
    ),
  ],
)
def test_load_refuses(path: str, edit: Edit, message: str) -> None:
  with h5py.File(path, 'r+') as file:
    edit(file)
  with pytest.raises(ValueError) as e:
    storage.load(path, with_actions=True)
  assert str(e.value) == path + message


def test_load_refuses_states_of_another_width(path: str) -> None:
  with h5py.File(path, 'r+') as file:
    _replaced('data/demo_1/states', lambda values: values[:, :5])(file)
    _replaced('data/demo_1/final_state', lambda values: values[:5])(file)
  with pytest.raises(ValueError) as e:
    storage.load(path)
  assert str(e.value) == (
    f'{path}: demo_1: states has width 5; expected width 6, as demo_0 has'
  )


@pytest.mark.parametrize('read', [storage.load, storage.has_actions])
def test_refuses_a_missing_file(
  read: Callable[[str], object], tmp_path: pathlib.Path
) -> None:
  path = str(tmp_path / 'none.hdf5')
  with pytest.raises(FileNotFoundError) as e:
    read(path)
  assert str(e.value) == (
    f'{path}: no such file; expected demonstrations in HDF5 '
    f'(python -m metamimic.record makes them)'
  )


def test_load_refuses_what_is_no_hdf5(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'notes.txt'
  path.write_text('demo_0')
  with pytest.raises(ValueError) as e:
    storage.load(str(path))
  assert str(e.value) == (
    f'{path}: not an HDF5 file; expected demonstrations as '
    f'python -m metamimic.record writes them'
  )


def test_load_refuses_a_truncated_file(path: str) -> None:
  with open(path, 'rb+') as file:
    file.truncate(os.path.getsize(path) // 2)
  with pytest.raises(ValueError) as e:
    storage.load(path)
  assert str(e.value).startswith(
    f'{path}: damaged; expected a complete HDF5 file (OSError: Unable'
  )


def test_load_refuses_damaged_numbers(path: str) -> None:
  with h5py.File(path, 'r') as file:
    states = file['data/demo_1/states'].id.get_chunk_info(0)
  with open(path, 'rb+') as file:
    file.seek(states.byte_offset)
    file.write(bytes(states.size))
  with pytest.raises(ValueError) as e:
    storage.load(path)
  assert str(e.value).startswith(
    f'{path}: demo_1: states is damaged; expected it readable ('
  )


def _renamed(**changes: Any) -> types.DemonstrationSet:
  """Returns a set of one demonstration that is in some way unlike others."""
  d = _demonstration(0)
  given = {
    'name': d.name,
    'task': d.task,
    'skill': d.skill,
    'observations': d.observations,
    'states': d.states,
    'actions': d.actions,
    **changes,
  }
  return types.DemonstrationSet(
    given['task'], (types.Demonstration(**given),), train=(0,), valid=()
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'name': 'mine_0'}, "data holds 'mine_0'; expected demo_0, demo_1, ..."),
    ({'task': 'fly'}, "the task is 'fly'; expected one of ['lift_brick', "),
    (
      {'observations': {'body': np.zeros((4, 33), np.float32)}},
      "observations have the groups {'body': 33}; expected those of lift_brick, "
      "{'body': 33, 'objects': 13}",
    ),
    (
      {'actions': np.zeros((3, 7), np.float32)},
      'demo_0: actions have shape (3, 7); expected (T, 9)',
    ),
  ],
)
def test_what_load_would_refuse_is_not_saved(
  tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
  path = tmp_path / 'mine.hdf5'
  with pytest.raises(ValueError) as e:
    storage.save(str(path), _renamed(**changes))
  assert str(e.value).startswith(f'{path}: {message}')
  assert not any(tmp_path.iterdir())


def test_actions_of_another_robot_are_refused(path: str) -> None:
  with h5py.File(path, 'a') as file:
    group = file['data/demo_1']
    del group['actions']
    group['actions'] = np.zeros((5, 7), np.float32)
  with pytest.raises(ValueError) as e:
    storage.load(path, with_actions=True)
  assert str(e.value) == (f'{path}: demo_1: actions have shape (5, 7); expected (T, 9)')
  storage.load(path)
