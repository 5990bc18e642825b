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

from collections.abc import Iterator
import contextlib
import json
import os
from typing import Any

import h5py
import numpy as np

from envs import observations
from envs import tasks
from metamimic.demonstrations import types

VERSION = 2
"""Of this layout; files of another version are refused."""

# robomimic's documentation calls this env_type, its code reads `type`. There is no
# number for dm_control; 2 is Gym, the one that promises least.
_ROBOMIMIC_TYPE = 2

# Of the states alone: most of their numbers are zero.
_COMPRESSION = {'compression': 'gzip', 'compression_opts': 1}


def save(path: str, demonstrations: types.DemonstrationSet) -> None:
  """Writes a file; a file of that name is replaced, and only once all is written.

  Args:
    path: the file; its folder is made where it is missing.
    demonstrations: what to write.

  Raises:
    OSError: the file cannot be written.
    ValueError: some are `novel`; that is for a run to say, and not for a file.
  """
  if demonstrations.novel:
    raise ValueError(
      f'{path}: {len(demonstrations.novel)} demonstrations are novel; expected each in '
      'train or valid'
    )
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


def load(path: str, with_actions: bool = False) -> types.DemonstrationSet:
  """Reads and checks a file.

  Args:
    path: the file.
    with_actions: whether to read the demonstrators' actions. MetaMimic does not: then
      they are not touched, and a file without them is as good.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no file of `save`'s; the message names the file, the
      demonstration, the field and what was expected.
  """
  with _open(path) as file:
    task = _task(path, file)
    layout = observations.Layout(tasks.get(task).objects)
    data = file['data']
    names = _names(path, data)
    demonstrations = tuple(
      _Reader(f'{path}: {name}', data[name]).read(name, task, layout, with_actions)
      for name in names
    )
    total = sum(d.num_steps for d in demonstrations)
    if data.attrs.get('total') != total:
      raise ValueError(
        f'{path}: data has attribute total = '
        f'{data.attrs.get("total")}; expected {total}, the number of '
        f'steps in it'
      )
    ids = {name: i for i, name in enumerate(names)}
    train, valid = (_mask(path, file, split, ids) for split in ('train', 'valid'))
  try:
    return types.DemonstrationSet(task, demonstrations, train, valid)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def has_actions(path: str) -> bool:
  """Returns whether every demonstration in the file has its actions recorded.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no HDF5 file with demonstrations.
  """
  with _open(path) as file:
    _task(path, file)
    return all('actions' in demonstration for demonstration in file['data'].values())


def counts(path: str) -> tuple[int, int]:
  """Returns how many demonstrations a file has to learn from, and held out.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it is no HDF5 file with demonstrations.
  """
  with _open(path) as file:
    _task(path, file)
    names = _names(path, file['data'])
    ids = {name: i for i, name in enumerate(names)}
    train, valid = (_mask(path, file, split, ids) for split in ('train', 'valid'))
    return len(train), len(valid)


@contextlib.contextmanager
def _open(path: str) -> Iterator[h5py.File]:
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f'{path}: no such file; expected demonstrations in HDF5 '
      f'(python -m metamimic.record makes them)'
    )
  if not h5py.is_hdf5(path):
    raise ValueError(
      f'{path}: not an HDF5 file; expected demonstrations as '
      f'python -m metamimic.record writes them'
    )
  try:
    file = h5py.File(path, 'r')
  except OSError as e:
    raise OSError(f'{path}: damaged; expected a complete HDF5 file ({e})') from e
  with file:
    yield file


def _task(path: str, file: h5py.File) -> str:
  """Returns the name of the task, after checking all that is said of the file."""
  data = file.get('data')
  if not isinstance(data, h5py.Group):
    raise ValueError(f'{path}: no group data; expected demonstrations in it')
  version = data.attrs.get('metamimic_version')
  if version != VERSION:
    raise ValueError(
      f'{path}: data has attribute metamimic_version = {version}; expected {VERSION}'
    )
  try:
    task = json.loads(data.attrs['env_args'])['env_name']
  except (KeyError, TypeError, ValueError):
    raise ValueError(
      f'{path}: data has attribute env_args = '
      f'{data.attrs.get("env_args")!r}; expected JSON with an '
      f'env_name'
    ) from None
  if task not in tasks.TASKS:
    raise ValueError(
      f'{path}: the task is {task!r}; expected one of {sorted(tasks.TASKS)}'
    )
  return task


def _names(path: str, data: h5py.Group) -> list[str]:
  for name in data:
    prefix, _, number = name.partition('_')
    if prefix != 'demo' or not number.isdecimal():
      raise ValueError(f'{path}: data holds {name!r}; expected demo_0, demo_1, ...')
  if not len(data):
    raise ValueError(f'{path}: data holds no demonstrations; expected demo_0, ...')
  return sorted(data, key=lambda name: int(name.partition('_')[2]))


def _mask(
  path: str, file: h5py.File, split: str, ids: dict[str, int]
) -> tuple[int, ...]:
  mask = file.get(f'mask/{split}')
  if (
    not isinstance(mask, h5py.Dataset)
    or mask.ndim != 1
    or h5py.check_string_dtype(mask.dtype) is None
  ):
    raise ValueError(
      f'{path}: mask/{split} is {mask!r}; expected a list of names of demonstrations'
    )
  names = [name.decode() for name in mask[()]]
  for name in names:
    if name not in ids:
      raise ValueError(
        f'{path}: mask/{split} holds {name!r}; expected names of '
        f'demonstrations in the file'
      )
  return tuple(ids[name] for name in names)


class _Reader:
  """Reads one demonstration; `where` names file and demonstration in errors."""

  def __init__(self, where: str, group: h5py.Group) -> None:
    self._where = where
    if not isinstance(group, h5py.Group):
      raise ValueError(f'{where} is a dataset; expected a group')
    self._group = group

  def read(
    self,
    name: str,
    task: str,
    layout: observations.Layout,
    with_actions: bool,
  ) -> types.Demonstration:
    """Returns the demonstration, or raises ValueError; see `load`."""
    states = self._array('states', np.float64)
    final_state = self._array('final_state', np.float64)
    if states.ndim != 2 or final_state.shape != states.shape[1:]:
      raise ValueError(
        f'{self._where}: final_state has shape {final_state.shape} and '
        f'states {states.shape}; expected (S,) and (T, S)'
      )
    if self._group.attrs.get('num_samples') != len(states):
      raise ValueError(
        f'{self._where}: attribute num_samples is '
        f'{self._group.attrs.get("num_samples")}; expected '
        f'{len(states)}, the length of states'
      )
    try:
      return types.Demonstration(
        name=name,
        task=task,
        skill=self._skill(),
        observations={
          group: self._observations(group, size, len(states))
          for group, size in layout.sizes.items()
        },
        states=np.concatenate([states, final_state[None]]),
        actions=self._array('actions', np.float32) if with_actions else None,
        expert=self._expert(),
        rewards=self._array('rewards', np.float32),
      )
    except ValueError as e:
      message = str(e)
      if message.startswith(self._where):
        raise
      # The type names the demonstration already.
      raise ValueError(f'{self._where}{message.removeprefix(name)}') from e

  def _array(self, field: str, dtype: type) -> np.ndarray:
    dataset = self._group.get(field)
    if not isinstance(dataset, h5py.Dataset):
      raise ValueError(
        f'{self._where}: no dataset {field}; expected one of {np.dtype(dtype)}'
      )
    if dataset.dtype != dtype:
      raise ValueError(
        f'{self._where}: {field} is {dataset.dtype}; expected {np.dtype(dtype)}'
      )
    try:
      return dataset[()]
    except OSError as e:
      raise OSError(
        f'{self._where}: {field} is damaged; expected it readable ({e})'
      ) from e

  def _observations(self, group: str, size: int, num_steps: int) -> np.ndarray:
    fields = {}
    for field in (f'obs/{group}', f'next_obs/{group}'):
      values = fields[field] = self._array(field, np.float32)
      if values.shape != (num_steps, size):
        raise ValueError(
          f'{self._where}: {field} has shape {values.shape}; expected '
          f'{(num_steps, size)}'
        )
    now, after = fields.values()
    if not np.array_equal(now[1:], after[:-1], equal_nan=True):
      raise ValueError(
        f'{self._where}: next_obs/{group} is not obs/{group} one step '
        f'on; expected the same numbers'
      )
    return np.concatenate([now, after[-1:]])

  def _skill(self) -> str:
    skill = self._group.attrs.get('skill')
    if not isinstance(skill, str):
      raise ValueError(f'{self._where}: attribute skill is {skill!r}; expected a name')
    return skill

  def _expert(self) -> dict[str, Any]:
    text = self._group.attrs.get('expert')
    try:
      expert = json.loads(text)
    except (TypeError, ValueError):
      expert = None
    if not isinstance(expert, dict):
      raise ValueError(
        f'{self._where}: attribute expert is {text!r}; expected a JSON object'
      )
    return expert
