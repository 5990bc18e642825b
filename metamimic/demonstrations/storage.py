"""Demonstrations in HDF5, in the layout of robomimic, so that its tools read them.

data                 attributes: total, env_args (JSON), metamimic_version
  demo_0             attributes: num_samples, skill, expert (JSON)
    states           (T, S) float64
    final_state      (S,) float64; robomimic has no place for the last state
    actions          (T, 9) float32 in [-1, 1]; may be absent
    rewards, dones   (T,) float32, (T,) uint8
    obs/<group>      (T, n) float32
    next_obs/<group> (T, n) float32
  demo_1 ...
mask/train, mask/valid   names of demonstrations, as bytes
"""

from collections.abc import Sequence
import contextlib
import json
import os
import re
from typing import Any

import h5py
import numpy as np

from envs import observations
from envs import stepping
from envs import tasks
from metamimic import files
from metamimic.demonstrations import hdf5
from metamimic.demonstrations import types

VERSION = 2
"""Of this layout; files of another version are refused."""

# robomimic's documentation calls this env_type, its code reads `type`. There is no
# number for dm_control; 2 is Gym, the one that promises least.
_ROBOMIMIC_TYPE = 2

_NAME = r'demo_[0-9]{1,9}'

# Of the states alone: most of their numbers are zero.
_COMPRESSION = {'compression': 'gzip', 'compression_opts': 1}


def save(path: str, demonstrations: types.DemonstrationSet) -> None:
  """Writes a file; a file of that name is replaced, and only once all is written.

  Args:
    path: the file; its folder is made where it is missing.
    demonstrations: what to write.

  Raises:
    OSError: the file cannot be written.
    ValueError: `load` would refuse it; or some are `novel`, which is for a run to say,
      and not for a file.
  """
  if demonstrations.novel:
    raise ValueError(
      f'{path}: {len(demonstrations.novel)} demonstrations are novel; expected each in '
      'train or valid'
    )
  task = demonstrations.task
  _check_task(path, task)
  _check_names(path, [d.name for d in demonstrations.demonstrations])
  expected = tasks.get(task).layout.sizes
  if demonstrations.widths != expected:
    raise ValueError(
      f'{path}: observations have the groups {demonstrations.widths}; expected those '
      f'of {task}, {expected}'
    )
  for d in demonstrations.demonstrations:
    _check_actions(f'{path}: {d.name}', d)
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  temporary = os.path.join(folder, f'.{os.path.basename(path)}.{os.getpid()}.tmp')
  try:
    with h5py.File(temporary, 'w') as file:
      _write(file, demonstrations)
    with open(temporary, 'rb+') as written:
      os.fsync(written.fileno())
    os.replace(temporary, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)


def _write(file: h5py.File, demonstrations: types.DemonstrationSet) -> None:
  data = file.create_group('data')
  data.attrs['metamimic_version'] = VERSION
  data.attrs['total'] = sum(d.num_steps for d in demonstrations.demonstrations)
  data.attrs['env_args'] = json.dumps(
    {'env_name': demonstrations.task, 'type': _ROBOMIMIC_TYPE, 'env_kwargs': {}}
  )
  for d in demonstrations.demonstrations:
    group = data.create_group(d.name)
    group.attrs['num_samples'] = d.num_steps
    group.attrs['skill'] = d.skill
    group.attrs['expert'] = json.dumps(dict(d.expert))
    dones = np.zeros(d.num_steps, np.uint8)
    dones[-1] = 1
    arrays = {'final_state': d.states[-1], 'rewards': d.rewards, 'dones': dones}
    if d.has_actions:
      arrays['actions'] = d.actions
    for name, values in d.observations.items():
      arrays[f'obs/{name}'], arrays[f'next_obs/{name}'] = values[:-1], values[1:]
    for name, values in arrays.items():
      group[name] = values
    states = d.states[:-1]
    group.create_dataset('states', data=states, chunks=states.shape, **_COMPRESSION)
  for split in ('train', 'valid'):
    names = [d.name.encode() for d in demonstrations.split(split)]
    file[f'mask/{split}'] = np.array(names, h5py.string_dtype('ascii', 32))


def load(
  path: str, with_actions: bool = False, vetted: bool = False
) -> types.DemonstrationSet:
  """Reads and checks a file.

  A fork of this process reads it first. So load before TensorFlow works in the
  process, or what is vetted.

  Args:
    path: the file.
    with_actions: whether to read the demonstrators' actions. MetaMimic does not: then
      they are not touched, and a file without them is as good.
    vetted: whether another process has read the same of it; see `hdf5.read`.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no file of `save`'s; the message names the file, the
      demonstration, the field and what was expected.
  """
  return hdf5.read(path, lambda file: _demonstrations(file, with_actions), vetted)


def vet(path: str) -> None:
  """Reads all of a file in a child, so that others can read it without a care.

  Raises:
    OSError: as of `load`.
    ValueError: as of `load`.
  """
  hdf5.vet(path, lambda file: _demonstrations(file, _all_have_actions(file)))


def _demonstrations(file: hdf5.Group, with_actions: bool) -> types.DemonstrationSet:
  """Returns what is in a file; see `load`."""
  path = file.where
  data, task = _data(file)
  layout = tasks.get(task).layout
  names = _names(data)
  demonstrations = tuple(
    _read(data, name, task, layout, with_actions) for name in names
  )
  total = sum(d.num_steps for d in demonstrations)
  found = data.attribute('total')
  if found != total:
    raise ValueError(
      f'{path}: data has attribute total = {found}; expected {total}, the number of '
      f'steps in it'
    )
  train, valid = (_mask(file, split, names) for split in ('train', 'valid'))
  try:
    return types.DemonstrationSet(task, demonstrations, train, valid)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def has_actions(path: str, vetted: bool = False) -> bool:
  """Returns whether every demonstration in the file has its actions recorded.

  Args:
    path: the file.
    vetted: as for `load`.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no HDF5 file with demonstrations.
  """
  return hdf5.read(path, _all_have_actions, vetted)


def _all_have_actions(file: hdf5.Group) -> bool:
  data, _ = _data(file)
  return all(_demonstration(data, name).has('actions') for name in _names(data))


def counts(path: str) -> tuple[int, int]:
  """Returns how many demonstrations a file has to learn from, and held out.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no HDF5 file with demonstrations.
  """

  def interpret(file: hdf5.Group) -> tuple[int, int]:
    data, _ = _data(file)
    names = _names(data)
    train, valid = (_mask(file, split, names) for split in ('train', 'valid'))
    return len(train), len(valid)

  return hdf5.read(path, interpret)


def _data(file: hdf5.Group) -> tuple[hdf5.Group, str]:
  """Returns the demonstrations and their task, after checking what is said of them."""
  path = file.where
  data = file.group('data', path)
  if data is None:
    raise ValueError(f'{path}: no group data; expected demonstrations in it')
  version = data.attribute('metamimic_version')
  if version != VERSION:
    raise ValueError(
      f'{path}: data has attribute metamimic_version = {version}; expected {VERSION}'
    )
  text = data.attribute('env_args')
  try:
    task = files.parse_json(text, path)['env_name']
  except (KeyError, TypeError, ValueError):
    raise ValueError(
      f'{path}: data has attribute env_args = {text!r:.200}; expected JSON with an '
      'env_name'
    ) from None
  _check_task(path, task)
  return data, task


def _check_task(path: str, task: object) -> None:
  if not isinstance(task, str) or task not in tasks.TASKS:
    raise ValueError(
      f'{path}: the task is {task!r:.200}; expected one of {sorted(tasks.TASKS)}'
    )


def _check_names(path: str, names: Sequence[str]) -> None:
  for name in names:
    if not re.fullmatch(_NAME, name):
      raise ValueError(
        f'{path}: data holds {name!r:.200}; expected demo_0, demo_1, ...'
      )


def _check_actions(where: str, demonstration: types.Demonstration) -> None:
  expected = stepping.ACTION_SPEC.shape
  if demonstration.has_actions and demonstration.actions.shape[1:] != expected:
    raise ValueError(
      f'{where}: actions have shape {demonstration.actions.shape}; expected (T, '
      f'{expected[0]})'
    )


def _names(data: hdf5.Group) -> list[str]:
  path = data.where
  names = data.names()
  _check_names(path, names)
  if not names:
    raise ValueError(f'{path}: data holds no demonstrations; expected demo_0, ...')
  return sorted(names, key=lambda name: int(name.partition('_')[2]))


def _demonstration(data: hdf5.Group, name: str) -> hdf5.Group:
  found = data.group(name, f'{data.where}: {name}')
  if found is None:
    raise ValueError(f'{data.where}: no group {name}; expected a demonstration')
  return found


def _mask(file: hdf5.Group, split: str, names: list[str]) -> tuple[int, ...]:
  path = file.where
  ids = {name: i for i, name in enumerate(names)}
  mask = file.strings(f'mask/{split}', len(names))
  if mask is None:
    raise ValueError(f'{path}: no mask/{split}; expected a list of demonstrations')
  found = []
  for name in mask:
    if name not in ids:
      raise ValueError(
        f'{path}: mask/{split} holds {name!r:.200}; expected names of '
        f'demonstrations in the file'
      )
    found.append(ids[name])
  return tuple(found)


def _read(
  data: hdf5.Group,
  name: str,
  task: str,
  layout: observations.Layout,
  with_actions: bool,
) -> types.Demonstration:
  group = _demonstration(data, name)
  where = group.where
  states = group.array('states', np.float64)
  final_state = group.array('final_state', np.float64)
  if states.ndim != 2 or final_state.shape != states.shape[1:]:
    raise ValueError(
      f'{where}: final_state has shape {final_state.shape} and '
      f'states {states.shape}; expected (S,) and (T, S)'
    )
  num_samples = group.attribute('num_samples')
  if num_samples != len(states):
    raise ValueError(
      f'{where}: attribute num_samples is {num_samples}; expected {len(states)}, the '
      f'length of states'
    )
  try:
    found = types.Demonstration(
      name=name,
      task=task,
      skill=_skill(group),
      observations={
        observed: _observations(group, observed, size, len(states))
        for observed, size in layout.sizes.items()
      },
      states=np.concatenate([states, final_state[None]]),
      actions=group.array('actions', np.float32) if with_actions else None,
      expert=_expert(group),
      rewards=group.array('rewards', np.float32),
    )
  except ValueError as e:
    message = str(e)
    if message.startswith(where):
      raise
    # The type names the demonstration already.
    raise ValueError(f'{where}{message.removeprefix(name)}') from e
  _check_actions(where, found)
  return found


def _observations(
  group: hdf5.Group, observed: str, size: int, num_steps: int
) -> np.ndarray:
  fields = {}
  for field in (f'obs/{observed}', f'next_obs/{observed}'):
    values = fields[field] = group.array(field, np.float32)
    if values.shape != (num_steps, size):
      raise ValueError(
        f'{group.where}: {field} has shape {values.shape}; expected {(num_steps, size)}'
      )
  now, after = fields.values()
  if not np.array_equal(now[1:], after[:-1], equal_nan=True):
    raise ValueError(
      f'{group.where}: next_obs/{observed} is not obs/{observed} one step '
      f'on; expected the same numbers'
    )
  return np.concatenate([now, after[-1:]])


def _skill(group: hdf5.Group) -> str:
  skill = group.attribute('skill')
  if not isinstance(skill, str):
    raise ValueError(
      f'{group.where}: attribute skill is {skill!r:.200}; expected a name'
    )
  return skill


def _expert(group: hdf5.Group) -> dict[str, Any]:
  text = group.attribute('expert')
  try:
    return files.parse_json(text, group.where)
  except (TypeError, ValueError):
    raise ValueError(
      f'{group.where}: attribute expert is {text!r:.200}; expected a JSON object'
    ) from None
